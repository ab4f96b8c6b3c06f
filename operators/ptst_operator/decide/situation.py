"""The input of one decision."""

from __future__ import annotations

from dataclasses import dataclass

from ptst_operator.children.raycluster import RayClusterState
from ptst_operator.children.state import ChildState
from ptst_operator.run import ResolvedRun, WantedRun
from ptst_operator.status import AttemptStatus
from ptst_operator.world import World


@dataclass(frozen=True)
class Situation:
    """The run as it is wanted, what was seen of it, and the time in unix seconds."""

    wanted: WantedRun
    world: World
    now: float

    @property
    def run(self) -> ResolvedRun:
        """The run itself."""
        return self.wanted.run

    @property
    def child(self) -> ChildState | None:
        """The child that was seen, if it is of this run."""
        seen = self.world.child
        return seen if seen is not None and seen.run_uid == self.run.uid else None

    @property
    def cluster(self) -> RayClusterState | None:
        """The RayCluster that was seen, if it is of this run."""
        seen = self.world.cluster
        return seen if seen is not None and seen.run_uid == self.run.uid else None

    def is_late(self, attempt: AttemptStatus) -> bool:
        """Whether an attempt that is being ended has had all the time that it may take."""
        stopping = attempt.stopping
        return stopping is not None and self.now >= stopping.since.timestamp() + self.run.spec.deadlines.stop_seconds

    def in_the_way(self, seen: ChildState | RayClusterState | None) -> bool:
        """Whether an object of somebody else has the name, and stays until a person deletes it."""
        return seen is not None and seen.run_uid != self.run.uid and not seen.deleting
