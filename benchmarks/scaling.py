"""How cost grows: the driver with 64 pretended workers at the paper's sizes, and the update with tokens and group size.

`driver`: a stage's real loop, grader and journal. The workers are pretended. Their completions are made up once and come as
bytes that are read as Ray's results are, so reading them counts. Its own seconds are the CPU seconds of this process. Grading
happens in others. `update`: seconds of training steps with more and more tokens on one and on two ranks, against the FLOPs
that the cost model counts for them. The line is a constant and a rate for each number of ranks.

    .venv/bin/python benchmarks/scaling.py driver --json driver.json
    .venv/bin/python benchmarks/scaling.py update
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import pickle
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import psutil
from grpo_step import Case, completions, make_model, ours, prompt_sizes
from rich.console import Console
from rich.table import Table

from visionr1.capacity.model import read_model_sizes
from visionr1.capacity.work import model_work
from visionr1.data.rows import Row
from visionr1.data.sampler import PromptSampler
from visionr1.grpo.batches import Batch, Batches
from visionr1.grpo.journal import StageJournal
from visionr1.grpo.loop import run_stage
from visionr1.grpo.parity import Gap, Probe
from visionr1.metrics.exporter import Exporter
from visionr1.metrics.listening import free_port
from visionr1.recipe import load_recipe, stage_phase
from visionr1.reward import Grader
from visionr1.rollout.types import Completion, Reply, Sampling
from visionr1.rundir.steplog import StepLog
from visionr1.storage import open_store

WORKERS: Final = 64
PROMPTS: Final = 512
GROUP: Final = 16
TOKENS: Final = 1_500
"""Mean of a completion, in characters and tokens alike."""
PROMPTS_OF_RANK: Final = 2
ROW_TOKENS: Final = 8_192
STATS: Final = ("loss", "kl_mean", "entropy_mean", "clip_ratio", "logprob_mismatch", "logprob_mismatch_max", "grad_norm")


@dataclass(frozen=True)
class DriverStep:
    """Of one step: CPU seconds of the driver's own process, seconds by the clock, resident bytes at its end."""

    own: float
    wall: float
    resident: int


class Pretended:
    """A crew of workers whose groups are bytes."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.parts = [self._part(rng) for _ in range(WORKERS)]
        self.steps: list[DriverStep] = []
        self._begun = time.process_time(), time.perf_counter()

    def _part(self, rng: np.random.Generator) -> bytes:
        """One worker's groups: half of the answers are right."""
        groups = []
        for _ in range(PROMPTS // WORKERS):
            lengths = rng.lognormal(np.log(TOKENS * 0.7), 0.8, size=GROUP).astype(int).clip(8, 4_096)
            groups.append([self._reply(rng, int(length)) for length in lengths])
        return pickle.dumps(groups, protocol=5)

    def _reply(self, rng: np.random.Generator, tokens: int) -> Reply:
        ids = rng.integers(0, 150_000, size=tokens, dtype=np.int32)
        thought = "So the sum is 12, wait. " * (3 * tokens // 24)
        return Reply(f"<think>{thought}</think><answer>{rng.integers(0, 2)}</answer>", ids, "stop")

    def rollout(self, batch: Batch, sampling: Sampling, seeds: list[int]) -> Iterator[dict[int, list[Reply]]]:
        for number, part in enumerate(self.parts):
            groups = pickle.loads(part)  # noqa: S301 - our own bytes, read as Ray reads them
            yield {number * len(groups) + index: group for index, group in enumerate(groups)}

    def update(self, advantages_PG: np.ndarray, learning_rate: float, upcoming: Batch | None) -> dict[str, float]:
        return dict.fromkeys(STATS, 0.0) | {"trained_tokens": 0, "idle_passes": 0}

    def check(self) -> None: ...

    def sync(self) -> None: ...

    def probe(self) -> list[Probe]:
        return [Probe(Gap(0.0, 0.0), Gap(0.0, 0.0))]

    def save(self, step: int) -> list[Any]:
        return []

    def commit(self, step: int, parts: list[Any], state: dict[str, Any], *, wait: bool) -> None: ...

    def ended(self) -> None:
        """Takes the figures of a step that has ended."""
        now = time.process_time(), time.perf_counter()
        own, wall = (after - before for after, before in zip(now, self._begun, strict=True))
        self.steps.append(DriverStep(own, wall, psutil.Process().memory_info().rss))
        self._begun = now


def driver(steps: int) -> list[DriverStep]:
    """Runs a stage of so many steps."""
    recipe = load_recipe(
        "vision-r1",
        [
            f'stages=[{{"max_completion_tokens":4096,"group_size":{GROUP},"steps":{steps}}}]',
            f"algorithm.prompts_per_step={PROMPTS}",
            "metrics.enabled=false",
            "checkpoint.every=1",
            f"rollout.parity_every={steps + 1}",
        ],
    )
    rows = [Row(f"row-{number}", "How many?", (), "1") for number in range(10 * PROMPTS)]
    crew = Pretended()
    with tempfile.TemporaryDirectory() as folder, Grader(recipe.reward) as grader:
        store, phase = open_store(folder), stage_phase(recipe, 1)
        exporter = Exporter(recipe.metrics, "driver", recipe.name)
        journal = StageJournal(recipe, phase, store, StepLog(store, phase.name, 0), exporter, lambda n, note="": crew.ended())
        batches = Batches(rows, PromptSampler(len(rows), 1, "made up"), {}, PROMPTS)
        run_stage(recipe, phase, 0, batches, cast(Any, crew), grader, journal, lambda: False)
    return crew.steps


@dataclass(frozen=True)
class Reading:
    """CPU seconds that the driver needs to read all workers' results of one step."""

    what: str
    megabytes: float
    seconds: float


def reading() -> list[Reading]:
    """As the workers send them, and with ids and log-probs as lists, the plain way."""
    arrays = Pretended().parts
    lists = [pickle.dumps([[_listed(reply) for reply in group] for group in pickle.loads(part)]) for part in arrays]  # noqa: S301
    found = []
    for what, parts in (("replies", arrays), ("lists with log-probs", lists)):
        begun = time.process_time()
        for part in parts:
            pickle.loads(part)  # noqa: S301 - our own bytes
        found.append(Reading(what, sum(map(len, parts)) / 1e6, time.process_time() - begun))
    return found


def _listed(reply: Reply) -> Completion:
    return Completion(
        reply.text, reply.token_ids.tolist(), np.random.default_rng(0).random(len(reply.token_ids)).tolist(), "stop"
    )


@dataclass(frozen=True)
class UpdateCost:
    """Of one size of a training step: ranks, completion tokens and FLOPs (by the cost model) of all, seconds of the fastest step.

    `of_line` is the ratio of the seconds to those of the line.
    """

    world: int
    group_size: int
    tokens: int
    flops: float
    seconds: float
    line_seconds: float = 0.0
    of_line: float = 0.0


def update(tokens: list[int], groups: list[int], worlds: list[int]) -> list[UpdateCost]:
    """Training steps of a 24 M model with more and more tokens of completions on each rank; a line for each number of ranks."""
    cases = [Case(32_768, size, PROMPTS_OF_RANK, _longest(most, size), ROW_TOKENS, 3) for size in groups for most in tokens]
    with tempfile.TemporaryDirectory() as folder:
        make_model(cases[0], Path(folder))
        work = model_work(read_model_sizes(Path(folder)), 4)
        prompts, patches = prompt_sizes(cases[0], Path(folder))
        found = []
        for world in worlds:
            costs = []
            for case, seconds in zip(cases, in_ranks(world, cases, Path(folder)), strict=True):
                lengths = [[len(ids) for ids in group] for group in completions(case)]
                flops = work.update(prompts, lengths, patches, reference=True, vision_trained=True).flops
                costs.append(UpdateCost(world, case.group_size, world * sum(map(sum, lengths)), world * flops, seconds))
            found += against_line(costs)
    return found


def _longest(tokens: int, group_size: int) -> int:
    """The longest completion with which a rank's completions have about so many tokens in all."""
    return max(16, round(tokens / (0.3 * PROMPTS_OF_RANK * group_size)))


def in_ranks(world: int, cases: list[Case], folder: Path) -> list[float]:
    """Seconds of the fastest step of each case; every rank has the same data, and its share of the cores."""
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    port = free_port()
    ranks = [context.Process(target=_rank, args=(rank, world, port, cases, folder, results)) for rank in range(world)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
        if rank.exitcode:
            raise SystemExit("a rank failed; its output says why")
    return [max(seconds) for seconds in zip(*(results.get() for _ in ranks), strict=True)]


def _rank(rank: int, world: int, port: int, cases: list[Case], folder: Path, results: Any) -> None:
    import torch

    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // world))
    results.put([min(ours(case, folder, "shared")[0][1:]) for case in cases])


def against_line(costs: list[UpdateCost]) -> list[UpdateCost]:
    """The same with the seconds of the line: a constant and a rate, least squares of the relative errors."""
    terms = np.array([[1 / cost.seconds, cost.flops / cost.seconds] for cost in costs])
    largest = terms.max(axis=0)
    (constant, rate), *_ = np.linalg.lstsq(terms / largest, np.ones(len(costs)), rcond=None)
    lines = [float(constant / largest[0] + rate / largest[1] * cost.flops) for cost in costs]
    return [replace(cost, line_seconds=line, of_line=cost.seconds / line) for cost, line in zip(costs, lines, strict=True)]


def table_of(rows: list[dict[str, Any]], title: str) -> Table:
    """All fields, one line per row."""
    table = Table(title=title)
    for name in rows[0]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()))
    return table


def main() -> None:
    """Measures one of the two, prints a table, then JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("driver", "update"))
    parser.add_argument("--steps", type=int, default=20, help="of the driver")
    parser.add_argument(
        "--tokens", type=int, nargs="+", default=[256, 1_024, 4_096, 16_384], help="of a rank's completions in all"
    )
    parser.add_argument("--worlds", type=int, nargs="+", default=[1, 2], help="numbers of ranks")
    parser.add_argument("--groups", type=int, nargs="+", default=[4, 16], help="completions per prompt")
    parser.add_argument("--json", type=Path, help="file for the figures")
    asked = parser.parse_args()
    report: dict[str, list[dict[str, Any]]] = {}
    if asked.part == "driver":
        report["reading"] = [asdict(one) for one in reading()]
        report["steps"] = [asdict(one) for one in driver(asked.steps)]
    else:
        report["update"] = [asdict(one) for one in update(asked.tokens, asked.groups, asked.worlds)]
    for title, rows in report.items():
        Console().print(table_of(rows, title))
    print(json.dumps(report))
    if asked.json:
        asked.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
