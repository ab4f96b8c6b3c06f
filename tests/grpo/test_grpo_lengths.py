"""Which engine samples which prompts, and in which order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionr1.data.rows import Row
from visionr1.grpo import lengths
from visionr1.grpo.lengths import Lengths, spread
from visionr1.rollout.types import Reply


def row(name: str) -> Row:
    return Row(name, "How many?", (), "1")


def group(*tokens: int) -> list[Reply]:
    return [Reply("", np.zeros(n, dtype=np.int32), "stop") for n in tokens]


def test_rows_without_expectation_keep_their_order() -> None:
    assert [part.tolist() for part in spread(6, None, 3)] == [[0, 1], [2, 3], [4, 5]]


def test_the_longest_begin_and_the_sums_are_even() -> None:
    expected = [100.0, 10.0, 90.0, 20.0, 50.0, 60.0]
    parts = [part.tolist() for part in spread(6, expected, 2)]
    assert parts == [[0, 4, 3], [2, 5, 1]]
    assert [sum(expected[index] for index in part) for part in parts] == [170.0, 160.0]


@given(st.integers(1, 8), st.integers(1, 6), st.data())
def test_every_row_is_sampled_once_and_every_engine_has_as_many(engines: int, size: int, data: st.DataObject) -> None:
    n = engines * size
    expected = data.draw(st.none() | st.lists(st.floats(0, 1e5), min_size=n, max_size=n))
    parts = spread(n, expected, engines)
    assert sorted(np.concatenate(parts).tolist()) == list(range(n))
    assert {len(part) for part in parts} == {size}
    if expected is not None:
        assert all(expected[one] >= expected[next_] for part in parts for one, next_ in zip(part, part[1:], strict=False))


def test_a_new_prompt_is_expected_to_be_as_long_as_the_others() -> None:
    seen = Lengths({})
    assert seen.expected([row("a"), row("b")]) is None
    seen.note([row("a"), row("b")], [group(10, 20), group(30, 50)])
    assert seen.expected([row("b"), row("new"), row("a")]) == [40.0, 27.5, 15.0]
    assert Lengths(seen.state).expected([row("a"), row("b")]) == [15.0, 40.0]


def test_only_the_newest_prompts_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lengths, "MOST_PROMPTS", 2)
    seen = Lengths({"a": 1.0, "b": 2.0})
    seen.note([row("a"), row("c")], [group(5), group(7)])
    assert seen.state == {"a": 5.0, "c": 7.0}
