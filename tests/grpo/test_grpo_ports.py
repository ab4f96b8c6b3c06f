"""Where the workers listen."""

from visionr1.grpo.crew import places_on_nodes


def test_workers_of_one_node_are_counted_from_zero_on_every_node() -> None:
    assert places_on_nodes(["a", "a", "b", "b", "b"]) == [0, 1, 0, 1, 2]
    assert places_on_nodes(["a", "b", "c"]) == [0, 0, 0]
