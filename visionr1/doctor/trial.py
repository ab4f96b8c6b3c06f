"""One worker of a stage, tried: whether engine and trainer share a GPU, agree, train, save and resume, and how fast.

A process of its own (`python -m visionr1.doctor.trial`), for a library that crashes must not take the other checks with it.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch

from visionr1.capacity.model import find_model_sizes
from visionr1.data.digits import problems
from visionr1.data.rows import Row
from visionr1.doctor.finding import Finding, bad, good, guarded, not_seen
from visionr1.doctor.models import that_fits, write_random_model
from visionr1.doctor.parts import PARTS
from visionr1.grpo.parity import LIMITS, fault, probe_stats
from visionr1.grpo.plan import WorkerPlan
from visionr1.grpo.start import BASE, StageStart, Weights
from visionr1.grpo.worker import Worker
from visionr1.model.device import device_of
from visionr1.recipe import Recipe, parse_recipe, stage_phase, to_yaml
from visionr1.rollout.types import Reply, Sampling
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.storage import open_store

GIB: Final = 2**30
PHASE: Final = "stage-1"
SAVED_STEP: Final = 1
KEPT_GIB: Final = 0.5
"""What may be missing after a second sleep: the allocators' rounding."""
GIVEN_BACK: Final = 0.8
"""Share of the memory that vLLM takes when it wakes which its sleep must give back; CUDA graphs stay."""
NEAR: Final = {"float32": 1e-4, "bfloat16": 2e-2}
"""Relative difference of a resumed step's loss and gradient norm; on a GPU backward passes add in any order."""


class Trial:
    """The checks, each a method without arguments; `start` makes the worker that those after it use."""

    def __init__(self, recipe: Recipe, folder: Path, port: int, *, rank: int = 0, world: int = 1) -> None:
        self._asked, self._folder, self._port = recipe, folder, port
        self._run, self._next = str(folder / "run"), folder / "next.json"
        self._rank, self._world = rank, world
        self.device = device_of(recipe)
        self._gpu = self.device.type == "cuda"
        self._rows: list[Row] = problems("train")[: 16 if self._gpu else 4]
        self._tokens, self._group = (512, 8) if self._gpu else (48, 4)
        model = folder / "model"
        self._base = str(model) if model.is_dir() else "demo"
        self._worker: Worker | None = None
        self._awake = False

    def findings(self, checks: Sequence[str]) -> Iterator[Finding]:
        """Makes these checks; those that need a worker which did not begin are not seen."""
        ended = False
        for check in checks:
            if ended:
                yield not_seen(check, "the worker did not begin")
                continue
            yield (found := guarded(check, getattr(self, check)))
            ended = check in ("model", "start") and found.state == "bad"

    def model(self) -> Finding:
        """The model to try: the demo's on a CPU, else a random one of the recipe's size."""
        if not self._gpu:
            return good("model", "the demo's tiny one: a CPU is too slow for a larger one")
        gib = torch.cuda.mem_get_info(self.device)[1] / GIB
        trial = that_fits(self._asked, find_model_sizes(self._asked.model), gib)
        folder = self._folder / "model"
        write_random_model(trial.sizes, self._asked.model, self.device, folder)
        torch.cuda.empty_cache()
        self._base = str(folder)
        return good("model", str(trial), parameters=trial.sizes.parameters)

    def start(self) -> Finding:
        """Trainer and engine in one process, as a stage's worker begins."""
        begun = time.perf_counter()
        self._begin(BASE)
        seconds = time.perf_counter() - begun
        return good("start", f"trainer and engine ({self._recipe.rollout.engine}) began in {seconds:.0f} s", seconds=seconds)

    def _begin(self, policy: Weights) -> None:
        resumed = policy != BASE
        plan = WorkerPlan(
            recipe=self._recipe,
            run_url=self._run,
            epoch=0,
            phase=stage_phase(self._recipe, 1),
            rank=self._rank,
            world_size=self._world,
            master_address="127.0.0.1",
            master_port=self._port,
            start=StageStart(policy=policy, reference=BASE, restore_trainer=resumed, step=policy.step, sampler=None, lengths={}),
            place_on_node=self._rank,
        )
        self._worker = Worker(plan)
        self._awake = True

    @property
    def _recipe(self) -> Recipe:
        return small_stage(self._asked, self._base, len(self._rows), self._group, self._tokens, self._world)

    def sleep(self) -> Finding:
        """Does the engine give its memory back, a second time too?"""
        if not self._gpu:
            return not_seen("sleep", "on a CPU the engine keeps its memory")
        awake, asleep = [], []
        for _ in range(2):
            self._wake()
            awake.append(self._free())
            self._sample(temperature=0.0)
            asleep.append(self._free())
        figures = {"awake_free_gib": awake[1], "asleep_free_gib": asleep[1]}
        detail = f"{awake[1]:.1f} GiB free while the engine is awake, {asleep[1]:.1f} while it sleeps"
        taken = torch.cuda.mem_get_info(self.device)[1] / GIB - awake[0]
        if asleep[0] - asleep[1] > KEPT_GIB or awake[0] - awake[1] > KEPT_GIB:
            lost = max(asleep[0] - asleep[1], awake[0] - awake[1])
            return bad("sleep", f"{detail}; {lost:.1f} GiB less than the first time", "memory leaks: report it", **figures)
        if asleep[1] - awake[1] < GIVEN_BACK * taken * 0.5:
            return bad("sleep", detail, "the engine keeps its memory: see vLLM's log about sleep mode", **figures)
        return good("sleep", detail, **figures)

    def greedy(self) -> Finding:
        """Greedy tokens must be the same after sleep, wake and reload of the same weights."""
        self._wake()
        first = self._sample(temperature=0.0)
        self._wake()
        second = self._sample(temperature=0.0)
        total = sum(len(completion.token_ids) for completion in first)
        same = sum(np.array_equal(one.token_ids, other.token_ids) for one, other in zip(first, second, strict=True))
        if same < len(first):
            return bad(
                "greedy",
                f"after sleep and reload {len(first) - same} of {len(first)} greedy completions differ",
                "the engine does not serve the weights that it was given: do not train on this machine; report it",
            )
        return good("greedy", f"{total} greedy tokens are the same after sleep and reload", tokens=total)

    def parity(self) -> Finding:
        """Engine against trainer on sampled tokens, as a stage's own probe."""
        self._wake()
        self._sample(temperature=1.0)  # a probe asks about what the last rollout has seen
        self._wake()
        probe = self._live.probe()
        stats = probe_stats([probe])
        figures = {"mean_nats": stats["parity_probe_mean"], "largest_nats": stats["parity_probe_max"]}
        limit = self._recipe.rollout.mismatch_limit or LIMITS[self._recipe.model.dtype]
        detail = f"log-probs differ by {figures['mean_nats']:.2g} nats in the mean and {figures['largest_nats']:.2g} at most"
        wrong = fault(self._recipe, {"logprob_mismatch": 0.0, "logprob_mismatch_max": 0.0}, [probe])
        if wrong is not None:
            return bad("parity", wrong, "", **figures)
        return good("parity", f"{detail}; {limit:.2g} is allowed in the mean", **figures)

    def update(self) -> Finding:
        """One optimiser step."""
        stats = self._step(seed=1)
        figures = {key: stats[key] for key in ("loss", "grad_norm", "trained_tokens")}
        detail = f"loss {figures['loss']:.4g}, gradient norm {figures['grad_norm']:.4g}, {figures['trained_tokens']:.0f} tokens"
        if not np.isfinite(list(figures.values())).all():
            return bad("update", f"{detail}: not finite", "training is not sound on this machine; report it", **figures)
        return good("update", detail, **figures)

    def save(self) -> Finding:
        """A checkpoint, and one more step, which `resume` must make again."""
        if self._awake:
            self._sample(temperature=1.0)  # a stage saves while the engine sleeps
        checkpoints = Checkpoints(open_store(self._run), PHASE)
        checkpoints.staging(SAVED_STEP)
        begun = time.perf_counter()
        files = self._live.save(SAVED_STEP)
        checkpoints.commit(SAVED_STEP, files, {"sampler": {}})
        seconds, size = time.perf_counter() - begun, sum(file.bytes for file in files) / GIB
        self._next.write_text(json.dumps(self._step(seed=2)))
        return good("save", f"{size:.2f} GiB saved in {seconds:.1f} s", seconds=seconds, size_gib=size)

    def resume(self) -> Finding:
        """The step after the checkpoint, made again by a worker that began from it."""
        self._begin(Weights(PHASE, SAVED_STEP))
        first, second = json.loads(self._next.read_text()), self._step(seed=2)
        apart = max(abs(first[key] - second[key]) / max(abs(first[key]), 1e-3) for key in ("loss", "grad_norm"))
        detail = f"the step after the checkpoint, made again from it, differs by {apart:.2g} (loss and gradient norm, relative)"
        if apart > NEAR[self._recipe.model.dtype]:
            return bad("resume", detail, "a resumed run would not go on where it was; report it", apart_relative=apart)
        return good("resume", detail, apart_relative=apart)

    def pair(self) -> Finding:
        """Two workers whose engines share each model: tensor parallelism over two GPUs."""
        self._begin(BASE)
        found = self.parity()
        return replace(found, check="pair", detail=f"tensor parallel over {self._world}: {found.detail}")

    def speed(self) -> Finding:
        """Tokens per second of decoding and of training, and MFU."""
        self._wake()
        begun = time.perf_counter()
        sampled = self._sample(temperature=1.0)
        decoding = time.perf_counter() - begun
        tokens = sum(len(completion.token_ids) for completion in sampled)
        begun = time.perf_counter()
        self._train(len(sampled), seed=3)
        training = time.perf_counter() - begun
        figures = {"decode_tokens_per_second": tokens / decoding, "training_tokens_per_second": tokens / training}
        mfu = self._live.efficiency.get("mfu_ratio", {}).get("update")
        words = "MFU unknown for this device"
        if mfu is not None:
            figures["mfu_ratio"], words = mfu, f"MFU {mfu:.0%}"
        detail = f"{tokens / decoding:.0f} tokens per second sampled, {tokens / training:.0f} trained, {words}"
        return good("speed", f"{detail} ({tokens} tokens, {self._group} completions per prompt)", **figures)

    @property
    def _live(self) -> Worker:
        if self._worker is None:
            raise RuntimeError("the worker did not begin, see `start`")
        return self._worker

    def _wake(self) -> None:
        if not self._awake:
            self._live.sync()
            self._awake = True

    def _sample(self, temperature: float, seed: int = 0) -> list[Reply]:
        """A rollout of all rows; the engine sleeps afterwards."""
        sampling = Sampling(self._group if temperature else 1, self._tokens, temperature)
        groups = self._live.rollout(self._rows, sampling, [seed + index for index in range(len(self._rows))])
        self._awake = False
        return [reply for group in groups for reply in group]

    def _step(self, seed: int) -> dict[str, float]:
        self._wake()
        return self._train(len(self._sample(temperature=1.0, seed=seed)), seed)

    def _train(self, completions: int, seed: int) -> dict[str, float]:
        advantages = np.random.default_rng(seed).standard_normal((completions // self._group, self._group))
        return self._live.update(advantages.tolist(), self._recipe.optimiser.learning_rate, [])

    def _free(self) -> float:
        torch.cuda.synchronize(self.device)
        return torch.cuda.mem_get_info(self.device)[0] / GIB


def small_stage(recipe: Recipe, base: str, prompts: int, group_size: int, tokens: int, workers: int) -> Recipe:
    """The recipe with one short stage for so many workers of one engine."""
    stage = {"max_completion_tokens": tokens, "group_size": group_size, "steps": 2, "tensor_parallel": workers}
    changes = [
        f"model.base={base}",
        f"stages={json.dumps([stage])}",
        f"algorithm.prompts_per_step={prompts}",
        f"rollout.workers={workers}",
        "metrics.enabled=false",
    ]
    return parse_recipe(to_yaml(recipe), "the recipe", changes)


def main() -> None:
    """Makes the checks of one part, and writes each finding as a line of JSON to the file descriptor that --report names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--part", choices=PARTS, required=True)
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument("--world", type=int, default=1)
    parser.add_argument("--report", type=int, required=True)
    asked = parser.parse_args()
    recipe = parse_recipe(asked.recipe.read_text(), str(asked.recipe), [])
    trial = Trial(recipe, asked.folder, asked.port, rank=asked.rank, world=asked.world)
    with os.fdopen(asked.report, "w") as report:
        for finding in trial.findings(PARTS[asked.part]):
            report.write(json.dumps(finding.to_json()) + "\n")
            report.flush()


if __name__ == "__main__":
    main()
