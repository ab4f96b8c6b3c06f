"""The training phase of one GRPO step as planned and as measured on a CPU, for steps of different shapes.

One constant of the plan is calibrated: the part of the peak FLOP/s that a pass reaches, so that the largest error over all shapes
is the least. Steps are measured in CPU seconds of one thread, so that other work on the machine counts little. The fastest step
of each shape counts.

    python benchmarks/plan_seconds.py
    python benchmarks/plan_seconds.py --steps 5 --json seconds.json
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from grpo_step import PIXELS, QUESTION, Case, completions, make_model, ours, pictures
from rich.console import Console
from rich.table import Table

from visionr1.capacity.cards import CPU, Fleet
from visionr1.capacity.choose import Choice
from visionr1.capacity.lengths import assumed_sizes
from visionr1.capacity.model import read_model_sizes
from visionr1.capacity.pace import CPU as CPU_PACE
from visionr1.capacity.pace import Pace
from visionr1.capacity.times import Setting, stage_times
from visionr1.recipe import load_recipe

SHAPES: Final = (
    Case(vocabulary=32_768, group_size=8, prompts=2, longest=256, row_tokens=2_048, steps=3),
    Case(vocabulary=32_768, group_size=4, prompts=4, longest=256, row_tokens=2_048, steps=3),
    Case(vocabulary=32_768, group_size=8, prompts=2, longest=512, row_tokens=2_048, steps=3),
    Case(vocabulary=32_768, group_size=16, prompts=2, longest=256, row_tokens=1_024, steps=3),
    Case(vocabulary=65_536, group_size=8, prompts=2, longest=256, row_tokens=2_048, steps=3),
)
"""After the first one: more pictures, longer completions, more of them in shorter rows, a larger head."""


def planned(case: Case, folder: Path, pace: Pace) -> float:
    """Seconds of update and reference passes."""
    from visionr1.data.rows import Row
    from visionr1.model.chat import PromptBuilder

    recipe = load_recipe(
        "demo",
        [
            f"model.base={folder}",
            f"model.min_pixels={PIXELS[0]}",
            f"model.max_pixels={PIXELS[1]}",
            "rollout.workers=1",
            f"algorithm.prompts_per_step={case.prompts}",
            f"stages=[{{max_completion_tokens: {case.longest}, group_size: {case.group_size}}}]",
        ],
    )
    builder = PromptBuilder(folder, recipe.model)
    tokens, image = [], []
    for picture in pictures(case):
        data = io.BytesIO()
        picture.save(data, "PNG")
        prompt = builder.build(Row("row", f"<image>{QUESTION}", (data.getvalue(),), "1"))
        tokens.append(len(builder.expand(prompt)))
        image.append(sum(builder.image_tokens(one) for one in prompt.images))
    lengths = [len(ids) for group in completions(case) for ids in group]
    sizes = assumed_sizes(recipe).with_prompts(sum(tokens) / len(tokens), sum(image) / len(image))
    setting = Setting(recipe=recipe, model=read_model_sizes(folder), fleet=Fleet(CPU, 1, 1), pace=pace, sizes=sizes)
    choice = Choice(zero_stage=2, reference="gpu", row_tokens=case.row_tokens, engine_share=0.0)
    parts = stage_times(setting, recipe.stages[0], choice, sum(lengths) / len(lengths), 1e6).parts
    return parts["update"].expected + parts["reference"].expected


def calibrated(measured: list[tuple[Case, Path, float]]) -> Pace:
    """The pace with which the plan is as much too long for one shape as it is too short for another."""
    low, high = 1e-3, 10.0
    for _ in range(40):
        middle = (low * high) ** 0.5
        pace = replace(CPU_PACE, compute=middle)
        ratios = [planned(case, folder, pace) / seconds for case, folder, seconds in measured]
        low, high = (low, middle) if max(ratios) * min(ratios) < 1 else (middle, high)
    return pace


def main() -> None:
    """Measures all shapes, and prints each beside its plan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4, help="steps per shape; the first one is not counted")
    parser.add_argument("--json", type=Path, help="file for the figures")
    asked = parser.parse_args()
    alone = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29613", "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    os.environ |= alone | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    import torch

    torch.set_num_threads(1)
    table = Table(title="update and reference passes of one GRPO step, CPU seconds")
    for column in ("prompts", "group", "longest", "row", "vocabulary", "measured", "planned", "ratio"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as name:
        measured = []
        for place, shape in enumerate(SHAPES):
            case, folder = replace(shape, steps=asked.steps), Path(name) / str(place)
            make_model(case, folder)
            seconds, _ = ours(case, folder, "shared", time.process_time)
            measured.append((case, folder, min(seconds[1:])))
        pace = calibrated(measured)
        expected = [planned(case, folder, pace) for case, folder, _ in measured]
    report = []
    for (case, _, real), plan in zip(measured, expected, strict=True):
        figures = (case.prompts, case.group_size, case.longest, case.row_tokens, case.vocabulary)
        table.add_row(*map(str, figures), f"{real:.2f}", f"{plan:.2f}", f"{plan / real:.2f}")
        report.append({"case": asdict(case), "measured": real, "planned": plan, "compute": pace.compute})
    Console().print(table)
    print(json.dumps(report))
    if asked.json:
        asked.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
