"""A whole worker in this process, alone in its group: the trainer under DeepSpeed and a rollout engine, as a stage has them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ranks import free_port
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration

from visionr1.data.digits import problems
from visionr1.demo.tiny import save, tiny_model, tiny_processor
from visionr1.grpo.parity import Probe, fault
from visionr1.grpo.plan import WorkerPlan
from visionr1.grpo.start import BASE, StageStart
from visionr1.grpo.worker import Worker
from visionr1.recipe import Recipe, load_recipe, stage_phase
from visionr1.rollout.types import Sampling

ROWS = problems("train")[:4]
RATE = load_recipe("demo").optimiser.learning_rate
SAMPLING = Sampling(4, 16, 1.0)


class Stage:
    """Steps of a stage by one worker: what `run_stage` does to it and asks of it."""

    def __init__(self, engine: str, base: str = "demo", temperature: float = 1.0) -> None:
        self.recipe: Recipe = load_recipe(
            "demo",
            [
                f"rollout.engine={engine}",
                f"model.base={base}",
                f"rollout.temperature={temperature}",
                "rollout.workers=1",
                "metrics.enabled=false",
            ],
        )
        start = StageStart(policy=BASE, reference=BASE, restore_trainer=False, step=0, sampler=None, lengths={})
        plan = WorkerPlan(
            recipe=self.recipe,
            run_url="unused",
            epoch=0,
            phase=stage_phase(self.recipe, 1),
            rank=0,
            world_size=1,
            master_address="127.0.0.1",
            master_port=free_port(),
            start=start,
            place_on_node=0,
        )
        self.worker = Worker(plan)
        self.steps = 0

    def update(self) -> dict[str, float]:
        """Rollout and update, at the demo's learning rate and with advantages of the usual size."""
        self.steps += 1
        groups = self.worker.rollout(ROWS, SAMPLING, list(range(self.steps, self.steps + len(ROWS))))
        advantages = np.random.default_rng(self.steps).standard_normal((len(groups), SAMPLING.n))
        return self.worker.update(advantages.tolist(), RATE, [])

    def step(self) -> str | None:
        """A whole step; what the loop would stop the run with."""
        stats = self.update()
        self.worker.sync()
        return self.verdict(stats)

    def verdict(self, stats: dict[str, float] | None = None) -> str | None:
        """What the loop would say now; without the update's statistics the probe alone speaks."""
        well = {"logprob_mismatch": 0.0, "logprob_mismatch_max": 0.0}
        return fault(self.recipe, well if stats is None else stats, [self.probe()])

    def probe(self) -> Probe:
        return self.worker.probe()

    @contextmanager
    def repaired(self) -> Iterator[None]:
        """Whatever happened inside, engine and trainer agree again after it."""
        yield
        self.worker._engine.sleep()
        self.worker.sync()
        assert self.verdict() is None, "the fault was planted and is gone: all is well again"


def tied_model(folder: Path, base: Path) -> str:
    """A tiny model with a head that is tied to its embeddings, as in the real 3B model; its tokenizer is `base`'s."""
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    untied = tiny_model(tokenizer, seed=5)
    config: Any = untied.config
    config.tie_word_embeddings = config.text_config.tie_word_embeddings = True
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config = untied.generation_config
    save(model, tiny_processor(tokenizer), folder)
    return str(folder)
