"""From graded responses to a score, as pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from visionr1.benchmarks.score import standard_error


@dataclass(frozen=True)
class Outcome:
    """One graded response: accuracy in [0, 1], length in tokens, whether it was cut at the limit."""

    problem_id: str
    accuracy: float
    tokens: int
    truncated: bool


@dataclass(frozen=True)
class Score:
    """Held-out score of one model.

    `accuracy` is pass@1, the mean over all samples. `standard_error` is over problems, not samples: samples of one
    problem are alike, so they are one cluster; None for a single problem. `truncated_ratio` counts responses that
    the engine cut at the length limit.
    """

    accuracy: float
    standard_error: float | None
    completion_tokens_mean: float
    truncated_ratio: float
    problems: int
    samples_per_problem: int


def score(outcomes: Sequence[Outcome]) -> Score:
    """The score of at least one response, the same number for each problem.

    Raises:
        ValueError: there is no response, or problems have different numbers of them.
    """
    by_problem: dict[str, list[float]] = {}
    for outcome in outcomes:
        by_problem.setdefault(outcome.problem_id, []).append(outcome.accuracy)
    sizes = {len(accuracies) for accuracies in by_problem.values()}
    if len(sizes) != 1:
        raise ValueError(f"every problem must have the same number of responses, not {sorted(sizes)}")
    means = [mean(accuracies) for accuracies in by_problem.values()]
    return Score(
        accuracy=mean(means),
        standard_error=standard_error(means),
        completion_tokens_mean=mean([outcome.tokens for outcome in outcomes]),
        truncated_ratio=mean([outcome.truncated for outcome in outcomes]),
        problems=len(means),
        samples_per_problem=sizes.pop(),
    )


def mean(values: Sequence[float]) -> float:
    """The mean of at least one value."""
    return math.fsum(values) / len(values)


def evenly_spaced(size: int, count: int) -> set[int]:
    """`count` places in range(size), first and last among them; all of them if there are no more."""
    if size <= count:
        return set(range(size))
    return {round(place * (size - 1) / (count - 1)) for place in range(count)}
