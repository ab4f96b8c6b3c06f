"""The operator under any order of events: what must hold, holds, and the run comes to an end.

Each example is a seed: random steps of the cluster, of people and of training, with operators that are killed, refused,
overtaken by another one, or never hear the answer, at any of their calls. VISIONR1_SCHEDULES sets how many are tried.
"""

from __future__ import annotations

import os

import pytest
from fake_cluster import Crash, FakeCluster
from fake_directory import run_directory_of
from hypothesis import given, settings
from hypothesis import strategies as st
from schedules import SFT_KINDS, Schedule, chain_of, play


@pytest.mark.timeout(1800)  # for ten thousand
@pytest.mark.parametrize("half", [0, 1])  # for two cores
@settings(max_examples=int(os.environ.get("VISIONR1_SCHEDULES", "150")) // 2, deadline=None)
@given(seed=st.integers(0, 2**61), length=st.integers(10, 90))
def test_no_order_of_events_breaks_a_run(half: int, seed: int, length: int) -> None:
    assert play(2 * seed + half, length)[0] in ("Succeeded", "Failed")


def test_schedules_reach_every_end() -> None:
    ends, rollbacks, elastic = set(), 0, 0
    for seed in range(400):
        end, back, fewer = play(seed, 90)
        ends.add(end)
        rollbacks += bool(back)
        elastic += fewer
        if ends == {"Succeeded", "Failed"} and rollbacks and elastic:
            break
    assert ends == {"Succeeded", "Failed"} and rollbacks and elastic


@pytest.mark.parametrize("backend", SFT_KINDS)
@pytest.mark.parametrize("at", range(14))
def test_an_operator_killed_at_one_call_of_every_look_still_finishes_the_run(at: int, backend: str) -> None:
    """Every second operator dies at its call number `at`."""
    schedule = Schedule(0)
    schedule.cluster.change_spec(holdBefore=[])
    schedule.cluster.committed.clear()
    schedule.cluster.served = {backend}
    with run_directory_of(schedule.cluster):
        for turn in range(300):
            seen = [0]

            def die(call: str, seen: list[int] = seen) -> None:
                seen[0] += 1
                if seen[0] == at:
                    raise Crash

            schedule.reconcile(die if turn % 2 else lambda call: None)
            if schedule.cluster.run.get("status", {}).get("phase") == "Succeeded":
                break
            _work(schedule)
        else:
            raise AssertionError(schedule.cluster.run["status"])
    made = [name for kind, name in schedule.cluster.made if kind not in ("RayCluster", "TrainingRuntime")]
    assert made == [f"run-{phase.name}-0" for phase in chain_of(schedule.cluster.run)], "one child for each phase, in order"


def _work(schedule: Schedule) -> None:
    """The cluster does what it should."""
    cluster: FakeCluster = schedule.cluster
    cluster.collect()
    cluster.ready()
    for process in list(cluster.processes):
        phase = next(one for one in chain_of(cluster.run) if one.name == process.phase)
        cluster.commit(phase, phase.first_step + 4 if phase.kind in ("sft", "grpo") else None, True)
        cluster.end(process, 0)
    for kind, child in cluster.children():
        cluster.start(kind, child)
    schedule.now += 5
