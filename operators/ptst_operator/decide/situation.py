"""The input of one decision."""

from __future__ import annotations

from dataclasses import dataclass

from ptst_operator.run import ResolvedRun, WantedRun
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
