"""Which checkpoints stay."""

from hypothesis import given
from hypothesis import strategies as st

from visionr1.rundir.retention import kept

STEPS = st.sets(st.integers(1, 300), min_size=1)
RULES = st.tuples(st.integers(1, 5), st.none() | st.integers(1, 300), st.integers(0, 100), st.integers(1, 10))


def test_the_papers_stage_keeps_every_fifth_of_its_last_fifty_steps() -> None:
    every_fifth = set(range(5, 101, 5))
    assert kept(every_fifth, 2, 100, 50) == set(range(55, 101, 5))
    assert kept(set(range(1, 101)), 2, 100, 50) == set(range(55, 101, 5)) | {99, 100}


def test_before_the_window_only_the_newest_stay() -> None:
    assert kept({5, 10, 15, 20}, 2, 100, 50) == {15, 20}
    assert kept({105, 110, 155, 160, 165}, 1, 200, 50) == {155, 160, 165}


def test_sft_has_no_window() -> None:
    assert kept({1000, 2000, 3000}, 2, None, 50) == {2000, 3000}


def test_nothing_of_nothing() -> None:
    assert kept(set(), 2, 100, 50) == set()


@given(STEPS, RULES)
def test_the_newest_and_the_last_one_always_stay(steps: set[int], rules: tuple[int, int | None, int, int]) -> None:
    keep = kept(steps, *rules)
    assert keep <= steps
    assert set(sorted(steps)[-rules[0] :]) <= keep
    assert max(steps) in kept(steps, 0, *rules[1:])
    assert kept(steps, 0, None, 0) == {max(steps)}


@given(STEPS, st.integers(1, 300), st.integers(1, 100), st.integers(1, 10))
def test_a_window_has_a_checkpoint_in_every_span_that_had_one(steps: set[int], stage_end: int, window: int, every: int) -> None:
    keep = kept(steps, 1, stage_end, window, every)
    for step in steps:
        if stage_end - window < step <= stage_end:
            assert any(step <= other < step + every for other in keep)


@given(STEPS, RULES)
def test_deleting_along_the_way_ends_with_the_same_checkpoints(steps: set[int], rules: tuple[int, int | None, int, int]) -> None:
    present: set[int] = set()
    for step in sorted(steps):
        present = kept(present | {step}, *rules)
    assert present == kept(steps, *rules)
