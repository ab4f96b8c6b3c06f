"""From outcomes to a score, against what can be worked out by hand or with numpy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionr1.benchmarks.score import standard_error
from visionr1.evaluate.scoring import Outcome, evenly_spaced, score


def outcomes(table: list[list[float]]) -> list[Outcome]:
    """One row of accuracies a problem; lengths 10, 11, ...; every third response is cut."""
    flat = [(f"p{row}", accuracy) for row, accuracies in enumerate(table) for accuracy in accuracies]
    return [Outcome(problem, accuracy, 10 + place, place % 3 == 0) for place, (problem, accuracy) in enumerate(flat)]


def test_score_of_single_samples() -> None:
    found = score(outcomes([[1.0], [0.0], [1.0], [1.0]]))
    assert (found.accuracy, found.completion_tokens_mean, found.truncated_ratio) == (0.75, 11.5, 0.5)
    assert (found.problems, found.samples_per_problem) == (4, 1)
    assert found.standard_error == pytest.approx(0.25)


def test_samples_of_one_problem_are_one_cluster() -> None:
    alike = score(outcomes([[1.0] * 8, [0.0] * 8]))
    assert alike.standard_error == pytest.approx(score(outcomes([[1.0], [0.0]])).standard_error)
    assert (alike.problems, alike.samples_per_problem) == (2, 8)


@given(st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=3, max_size=3), min_size=2, max_size=30))
def test_score_agrees_with_numpy(table: list[list[float]]) -> None:
    found = score(outcomes(table))
    means = np.mean(table, axis=1)
    assert found.accuracy == pytest.approx(np.mean(table))
    assert found.standard_error == pytest.approx(means.std(ddof=1) / np.sqrt(len(table)), abs=1e-12)


def test_one_problem_has_no_standard_error() -> None:
    assert standard_error([1.0]) is None
    assert score(outcomes([[1.0, 0.0]])).standard_error is None


def test_order_of_responses_does_not_matter() -> None:
    rows = outcomes([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    assert score(rows) == score(rows[::-1])


@pytest.mark.parametrize("table", [[], [[1.0], [1.0, 0.0]]])
def test_unequal_or_missing_responses_are_a_mistake(table: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="same number of responses"):
        score(outcomes(table))


@given(st.integers(0, 500), st.integers(2, 30))
def test_evenly_spaced_places(size: int, count: int) -> None:
    places = sorted(evenly_spaced(size, count))
    assert len(places) == min(size, count)
    assert all(0 <= place < size for place in places)
    if size > count:
        assert (places[0], places[-1]) == (0, size - 1)
        gaps = np.diff(places)
        assert gaps.max() - gaps.min() <= 1
