"""Groups go to the ranks so that all have as much to do, and none leaves its rank without need."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from visionr1.grpo.balance import CLOSE, balanced


def loads(flops: list[list[float]]) -> list[float]:
    """What each rank has after balancing."""
    return [sum(flops[rank][place] for rank, place in part) for part in balanced([np.array(own) for own in flops])]


def test_a_rank_with_long_groups_hands_some_over() -> None:
    own = [np.array([8.0, 7.0, 6.0]), np.array([1.0, 2.0, 1.0])]
    assert balanced(own) == [[(0, 0), (1, 0), (1, 1), (1, 2)], [(0, 1), (0, 2)]]


def test_equal_ranks_keep_their_groups() -> None:
    own = [np.array([3.0, 5.0, 4.0]), np.array([4.0, 3.01, 5.0])]
    assert balanced(own) == [[(0, 0), (0, 1), (0, 2)], [(1, 0), (1, 1), (1, 2)]]


def test_a_rank_without_a_signal_keeps_one_group_and_gets_others() -> None:
    parts = balanced([np.zeros(2), np.array([4.0, 4.0])])
    assert all(parts)
    assert sorted(loads([[0.0, 0.0], [4.0, 4.0]])) == [4.0, 4.0]
    assert all(balanced([np.zeros(3), np.zeros(3)]))
    assert all(balanced([np.array([1.0]), np.array([0.0]), np.array([0.0])]))


def test_groups_that_need_nothing_stay_where_they_are() -> None:
    parts = balanced([np.array([0.0, 9.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0, 0.0])])
    assert [[place for rank, place in part if rank == own] for own, part in enumerate(parts)] == [[0, 1, 2, 3], [0, 1, 2, 3]]


@given(st.integers(1, 6), st.integers(1, 8), st.data())
def test_every_group_is_trained_once_and_no_rank_has_much_more(ranks: int, size: int, data: st.DataObject) -> None:
    flops = data.draw(st.lists(st.lists(st.floats(0, 1e15), min_size=size, max_size=size), min_size=ranks, max_size=ranks))
    parts = balanced([np.array(own) for own in flops])
    assert sorted(at for part in parts for at in part) == [(rank, place) for rank in range(ranks) for place in range(size)]
    assert all(parts)
    total = sum(map(sum, flops))
    most = max(sum(flops[rank][place] for rank, place in part) for part in parts)
    # The bound of a list schedule: the mean and one group more.
    assert most <= (1 + CLOSE) * total / ranks + max(map(max, flops)) + 1e-6 * total
    for rank, part in enumerate(parts):
        assert part == sorted(part, key=lambda at: (at[0] != rank, at)), "its own come first"


def test_the_long_tail_of_a_real_batch_is_even() -> None:
    rng = np.random.default_rng(0)
    own = [rng.lognormal(0, 0.9, 8) for _ in range(64)]
    parts = balanced(own)
    before = np.array([group.sum() for group in own])
    after = np.array([sum(own[rank][place] for rank, place in part) for part in parts])
    assert before.max() / before.mean() > 1.5
    assert after.max() <= max(1.1 * after.mean(), max(float(group.max()) for group in own))
