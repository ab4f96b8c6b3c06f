"""The training phase of one GRPO step, compared with TRL's GRPOTrainer: the same model, pictures and planted completions.

Nothing is sampled: the completions' lengths are drawn once, long-tailed as real ones are, so the figures are of log-probs under
policy and reference, loss, gradient and optimiser step. TRL runs as its documentation says for a vision-language model, with the
micro-batch that is fastest here. Each part has a process of its own, so that peak memory is its own. All parts of a case use one
random model, made in a temporary folder. `shared` and `plain` are values of `model.attention`.

    make bench                                       # all cases; needs .venv-bench, which the target makes from its lock
    .venv-bench/bin/python benchmarks/grpo_step.py --groups 8 --vocabulary 32768 --json step.json
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

QUESTION: Final = "What is the area of the shaded region?"
SIZES: Final = ((224, 224), (448, 336), (336, 336), (448, 448))
"""Width and height of the pictures, in turns."""
PIXELS: Final = (784, 401_408)
PARTS: Final = ("shared", "plain", "trl")
WIDTH: Final = 256
LAYERS: Final = 4
VOCABULARIES: Final = (32_768, 151_936)
TRL_MICRO_BATCH: Final = 8
"""Completions per pass of TRL, its default. At 151,936 words 2 and 4 take as long, and less memory."""


@dataclass(frozen=True)
class Case:
    """`vocabulary` decides the model's size: 24 million parameters at 32,768 words, 85 million at 151,936."""

    vocabulary: int
    group_size: int
    prompts: int
    longest: int
    row_tokens: int
    steps: int


@dataclass(frozen=True)
class Figures:
    """Of one part: seconds of its fastest step after the first, peak resident memory in bytes, and the model's size."""

    part: str
    seconds: float
    peak_bytes: int
    parameters: int
    completion_tokens: int


def pictures(case: Case) -> list[Image.Image]:
    """Noise, one for each prompt."""
    rng = np.random.default_rng(0)
    sizes = [SIZES[index % len(SIZES)] for index in range(case.prompts)]
    return [Image.fromarray((rng.random((height, width, 3)) * 255).astype("uint8")) for width, height in sizes]


def completions(case: Case) -> list[list[list[int]]]:
    """For each prompt, each completion's token ids; lengths are log-normal and cut at the longest."""
    rng = np.random.default_rng(1)
    drawn = rng.lognormal(np.log(case.longest / 5), 0.9, size=(case.prompts, case.group_size)).astype(int)
    return [[rng.integers(5_000, 20_000, size=n).tolist() for n in row] for row in drawn.clip(8, case.longest)]


def make_model(case: Case, folder: Path) -> None:
    """A random Qwen2.5-VL with the demo's tokenizer."""
    import torch
    from transformers import AutoProcessor, GenerationConfig, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    from visionr1.capacity.model import DEMO_BASE

    settings = Qwen2_5_VLConfig.from_pretrained(DEMO_BASE).to_dict()
    inner, heads = WIDTH * 27 // 80 * 8, WIDTH // 64
    settings["text_config"] |= {
        "hidden_size": WIDTH,
        "intermediate_size": inner,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": heads,
        "num_key_value_heads": heads // 2,
        "vocab_size": case.vocabulary,
        "max_position_embeddings": 32_768,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 12, 12]},
        "layer_types": None,
        "max_window_layers": LAYERS,
    }
    settings["vision_config"] |= {
        "depth": 4,
        "hidden_size": WIDTH,
        "intermediate_size": inner,
        "num_heads": heads,
        "out_hidden_size": WIDTH,
        "window_size": 112,
        "fullatt_block_indexes": [1, 3],
    }
    settings.pop("transformers_version", None)
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**settings))
    model.generation_config = GenerationConfig.from_pretrained(DEMO_BASE)
    model.save_pretrained(folder)
    processor = AutoProcessor.from_pretrained(DEMO_BASE)
    processor.image_processor.min_pixels, processor.image_processor.max_pixels = PIXELS
    processor.save_pretrained(folder)


def ours(case: Case, folder: Path, attention: str, clock: Callable[[], float] = time.perf_counter) -> tuple[list[float], int]:
    """Seconds of each step, and the model's parameters."""
    import torch

    from visionr1.capacity.choose import choose_stage
    from visionr1.capacity.model import read_model_sizes
    from visionr1.data.rows import Row
    from visionr1.engine.zero import join_process_group
    from visionr1.grpo.trainer import Experience, Trainer
    from visionr1.model.chat import PromptBuilder
    from visionr1.model.pack import TrainSequence, prompt_tensors
    from visionr1.recipe import load_recipe

    device = torch.device("cpu")
    join_process_group(device)
    recipe = load_recipe(
        "demo",
        [
            f"model.base={folder}",
            f"model.min_pixels={PIXELS[0]}",
            f"model.max_pixels={PIXELS[1]}",
            f"model.attention={attention}",
            "model.gradient_checkpointing=false",
            "algorithm.kl_beta=0.01",
            "optimiser.freeze_vision_tower=false",
            f"optimiser.micro_batch_tokens={case.row_tokens}",
        ],
    )
    builder = PromptBuilder(folder, recipe.model)
    choice = choose_stage(recipe, recipe.stages[0], read_model_sizes(folder), None)
    trainer = Trainer(folder, folder, recipe, choice, builder.banned_token_ids, device)
    prompts = []
    for picture in pictures(case):
        data = io.BytesIO()
        picture.save(data, "PNG")
        prompt = builder.build(Row("row", f"<image>{QUESTION}", (data.getvalue(),), "1"))
        images = builder.image_inputs(prompt.images)
        prompts.append(prompt_tensors(trainer.rope_model, builder.expand(prompt), images, builder.image_token_id))
    rng = np.random.default_rng(2)
    batch = [
        Experience(TrainSequence(index, ids), float(rng.normal()), [0.0] * len(ids))
        for index, group in enumerate(completions(case))
        for ids in group
    ]
    seconds = timed(lambda: trainer.update(prompts, batch, 1e-6), case.steps, clock)
    return seconds, sum(parameter.numel() for parameter in trainer.policy.parameters())


def prompt_sizes(case: Case, folder: Path) -> tuple[list[int], list[int]]:
    """Tokens of each prompt, one per vision feature included, and patches of each picture."""
    from visionr1.data.rows import Row
    from visionr1.model.chat import PromptBuilder
    from visionr1.recipe import load_recipe

    settings = [f"model.base={folder}", f"model.min_pixels={PIXELS[0]}", f"model.max_pixels={PIXELS[1]}"]
    builder = PromptBuilder(folder, load_recipe("demo", settings).model)
    tokens, patches = [], []
    for picture in pictures(case):
        data = io.BytesIO()
        picture.save(data, "PNG")
        prompt = builder.build(Row("row", f"<image>{QUESTION}", (data.getvalue(),), "1"))
        tokens.append(len(builder.expand(prompt)))
        patches.append(int(builder.image_inputs(prompt.images).grid_thw_I3.prod()))
    return tokens, patches


def trl(case: Case, folder: Path) -> tuple[list[float], int]:
    """Seconds of each step, and the model's parameters."""
    import torch
    from datasets import Dataset
    from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    planted = [ids for group in completions(case) for ids in group]
    rng = np.random.default_rng(2)
    ends = [time.perf_counter()]

    class Planted(GRPOTrainer):  # type: ignore[misc]  # TRL is not in the environment of the type checker
        """Gets the completions from us in the place of its own generation."""

        def _generate_single_turn(self, prompt_ids: list[Any], *_: Any, **__: Any) -> tuple[list[list[int]], None]:
            return planted[: len(prompt_ids)], None

    class Ends(TrainerCallback):
        """Remembers when each step ended."""

        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    rows = [{"prompt": [{"role": "user", "content": QUESTION}], "image": picture, "answer": "7"} for picture in pictures(case)]
    config = GRPOConfig(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=TRL_MICRO_BATCH,
        gradient_accumulation_steps=case.prompts * case.group_size // TRL_MICRO_BATCH,
        num_generations=case.group_size,
        max_completion_length=case.longest,
        max_steps=case.steps,
        use_cpu=True,
        bf16=False,
        beta=0.01,
        loss_type="dapo",
        mask_truncated_completions=False,
        gradient_checkpointing=False,
        learning_rate=1e-6,
        shuffle_dataset=False,
        report_to=[],
        save_strategy="no",
    )
    trainer = Planted(
        model=model,
        processing_class=AutoProcessor.from_pretrained(folder, padding_side="left"),
        reward_funcs=lambda completions, **_: rng.normal(size=len(completions)).tolist(),
        args=config,
        train_dataset=Dataset.from_list(rows),
    )
    trainer.add_callback(Ends())
    ends[0] = time.perf_counter()
    trainer.train()
    return np.diff(ends).tolist(), sum(parameter.numel() for parameter in model.parameters())


def timed(call: Callable[[], object], times: int, clock: Callable[[], float] = time.perf_counter) -> list[float]:
    """Seconds of each of so many calls."""
    seconds = []
    for _ in range(times):
        begun = clock()
        call()
        seconds.append(clock() - begun)
    return seconds


def measure(part: str, case: Case, folder: Path) -> Figures:
    """One part, in this process."""
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    seconds, parameters = trl(case, folder) if part == "trl" else ours(case, folder, part)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    tokens = sum(len(ids) for group in completions(case) for ids in group)
    return Figures(part, min(seconds[1:]), peak, parameters, tokens)


def in_a_process(part: str, case: Case, folder: Path) -> Figures:
    """`measure` in a process of its own.

    Raises:
        SystemExit: the part failed; its output says why.
    """
    from visionr1.metrics.listening import free_port

    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "RANK": "0",
        "WORLD_SIZE": "1",
        "LOCAL_RANK": "0",
    }
    command = [sys.executable, __file__, "--part", part, "--folder", str(folder), "--case", json.dumps(asdict(case))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{part} failed:\n{done.stderr[-3000:]}")
    return Figures(**json.loads(done.stdout.splitlines()[-1]))


def compare(case: Case) -> list[Figures]:
    """All parts of a case, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        make_model(case, Path(folder))
        return [in_a_process(part, case, Path(folder)) for part in PARTS]


def table_of(results: list[tuple[Case, list[Figures]]]) -> Table:
    """The figures, and each part's ratios to TRL's."""
    table = Table(title="training phase of one GRPO step")
    for column in ("parameters", "group", "completion tokens", "part", "seconds", "x TRL's speed", "peak GB", "of TRL's memory"):
        table.add_column(column, justify="left" if column == "part" else "right")
    for case, figures in results:
        base = next(one for one in figures if one.part == "trl")
        for one in figures:
            table.add_row(
                f"{one.parameters / 1e6:.0f} M",
                str(case.group_size),
                str(one.completion_tokens),
                one.part,
                f"{one.seconds:.2f}",
                f"{base.seconds / one.seconds:.1f}",
                f"{one.peak_bytes / 1e9:.1f}",
                f"{one.peak_bytes / base.peak_bytes:.2f}",
            )
    return table


def main() -> None:
    """Compares every case that the options ask for; with --part measures one part of one case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, nargs="+", default=[8, 16], help="completions per prompt")
    parser.add_argument("--vocabulary", type=int, nargs="+", choices=VOCABULARIES, default=[*VOCABULARIES])
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--longest", type=int, default=512, help="tokens of the longest completion")
    parser.add_argument("--row-tokens", type=int, default=2_048, help="optimiser.micro_batch_tokens")
    parser.add_argument("--steps", type=int, default=3, help="steps per part; the first one is not counted")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.part:
        print(json.dumps(asdict(measure(asked.part, Case(**asked.case), asked.folder))))
        return
    results = []
    for vocabulary in asked.vocabulary:
        for group_size in asked.groups:
            case = Case(vocabulary, group_size, asked.prompts, asked.longest, asked.row_tokens, asked.steps)
            results.append((case, compare(case)))
            Console().print(table_of(results[-1:]))
    report = [{"case": asdict(case), "parts": [asdict(one) for one in figures]} for case, figures in results]
    print(json.dumps(report))
    if asked.json:
        asked.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
