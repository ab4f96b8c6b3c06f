"""From a reply to a verdict, and from verdicts to a score, as pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from visionr1.benchmarks.blocks import after_thought, answer_block, boxed
from visionr1.benchmarks.problem import Benchmark, Problem


@dataclass(frozen=True)
class Verdict:
    """What became of one reply: the answer that was read, whether it is right, and whether it is by our strict rule."""

    answer: str
    right: bool
    strict: bool


def read_answer(benchmark: Benchmark, problem: Problem, reply: str) -> str:
    """The answer by the set's rule: from the answer block if there is one, else from what follows the thought."""
    block = answer_block(reply)
    if block is not None:
        return benchmark.rule.read_block(problem, block)
    return benchmark.rule.read(problem, after_thought(reply))


def strict_answer(benchmark: Benchmark, problem: Problem, reply: str) -> str:
    """What the comparer of the reward gets: the answer block, else the last box, else the answer by the set's rule."""
    block = answer_block(reply)
    if block is not None:
        return [block, *boxed(block)][-1]
    boxes = boxed(after_thought(reply))
    return boxes[-1] if boxes else read_answer(benchmark, problem, reply)


@dataclass(frozen=True)
class Means:
    """Mean of a share, its standard error over problems, and over the means of single passes; None where there is one."""

    mean: float
    over_problems: float | None
    over_passes: float | None


def means(verdicts: Sequence[Sequence[bool]]) -> Means:
    """The mean over problems and passes; `verdicts` has the same number of passes for each problem."""
    by_problem = [sum(passes) / len(passes) for passes in verdicts]
    by_pass = [sum(one) / len(one) for one in zip(*verdicts, strict=True)]
    return Means(math.fsum(by_problem) / len(by_problem), standard_error(by_problem), standard_error(by_pass))


def figures(benchmark: Benchmark, problems: Sequence[Problem], verdicts: Sequence[Sequence[bool]]) -> dict[str, float]:
    """The set's other numbers, each the mean over passes."""
    passes = [benchmark.figures(list(zip(problems, one, strict=True))) for one in zip(*verdicts, strict=True)]
    return {name: math.fsum(one[name] for one in passes) / len(passes) for name in passes[0]}


def standard_error(values: Sequence[float]) -> float | None:
    """Standard error of the mean of independent values; None for fewer than two."""
    if len(values) < 2:
        return None
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))
