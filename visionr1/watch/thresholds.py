"""When something counts as wrong: the same numbers for the alerts and for `visionr1 watch`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Threshold:
    """`name` is its key in the chart's values."""

    name: str
    default: float
    unit: str
    help: str


STALLED_SECONDS: Final = Threshold("stalledSeconds", 3600, "seconds", "No step has ended for so long.")
REWARD_DROP_RATIO: Final = Threshold("rewardDropRatio", 0.5, "ratio", "Recent mean reward over the best of the stage.")
REWARD_SEEN: Final = Threshold("rewardSeen", 0.1, "reward", "A stage whose reward never got this far cannot collapse.")
LENGTH_GROWTH_RATIO: Final = Threshold("lengthGrowthRatio", 1.5, "ratio", "Mean length over what it was before.")
TRUNCATED_RATIO: Final = Threshold("truncatedRatio", 0.3, "ratio", "Completions cut at the stage's limit.")
TRUNCATED_AFTER_STEPS: Final = Threshold("truncatedAfterSteps", 50, "steps", "Steps that a stage has to get used to its limit.")
ZERO_SIGNAL_RATIO: Final = Threshold("zeroSignalRatio", 0.7, "ratio", "Groups whose rewards are all equal.")
MISMATCH_NATS: Final = Threshold("mismatchNats", 0.04, "nats", "Engine against trainer; the run stops at rollout.mismatch_limit.")
CHECKPOINT_AGE_SECONDS: Final = Threshold("checkpointAgeSeconds", 7200, "seconds", "Work that would be lost.")
HOST_MEMORY_BYTES_PER_HOUR: Final = Threshold(
    "hostMemoryBytesPerHour", 2**30, "bytes per hour", "Growth of a process's resident memory."
)
CHILD_RESTARTS_PER_HOUR: Final = Threshold("childRestartsPerHour", 1, "attempts", "New attempts at a phase within an hour.")
RECONCILE_ERRORS: Final = Threshold("reconcileErrors", 5, "errors", "Failed looks at runs within 15 minutes.")

THRESHOLDS: Final = (
    STALLED_SECONDS,
    REWARD_DROP_RATIO,
    REWARD_SEEN,
    LENGTH_GROWTH_RATIO,
    TRUNCATED_RATIO,
    TRUNCATED_AFTER_STEPS,
    ZERO_SIGNAL_RATIO,
    MISMATCH_NATS,
    CHECKPOINT_AGE_SECONDS,
    HOST_MEMORY_BYTES_PER_HOUR,
    CHILD_RESTARTS_PER_HOUR,
    RECONCILE_ERRORS,
)
