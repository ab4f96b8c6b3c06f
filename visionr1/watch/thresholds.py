"""When something counts as wrong. The alerts and `visionr1 watch` use the same numbers."""

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


STALLED_SECONDS: Final = Threshold("stalledSeconds", 3600, "seconds", "Longest time without the end of a step.")
REWARD_DROP_RATIO: Final = Threshold(
    "rewardDropRatio", 0.5, "ratio", "The reward has collapsed below this share of the stage's best."
)
REWARD_SEEN: Final = Threshold("rewardSeen", 0.1, "reward", "A stage that never reached this reward cannot collapse.")
LENGTH_GROWTH_RATIO: Final = Threshold(
    "lengthGrowthRatio", 1.5, "ratio", "Largest mean length, divided by the one two hours before."
)
TRUNCATED_RATIO: Final = Threshold(
    "truncatedRatio", 0.3, "ratio", "Largest share of completions that are cut at the stage's limit."
)
TRUNCATED_AFTER_STEPS: Final = Threshold(
    "truncatedAfterSteps", 50, "steps", "First steps of a stage, in which many completions may be cut."
)
ZERO_SIGNAL_RATIO: Final = Threshold("zeroSignalRatio", 0.7, "ratio", "Largest share of groups in which all rewards are equal.")
MISMATCH_NATS: Final = Threshold(
    "mismatchNats", 0.04, "nats", "Largest mean difference of engine and trainer. The run stops at rollout.mismatch_limit."
)
CHECKPOINT_AGE_SECONDS: Final = Threshold("checkpointAgeSeconds", 7200, "seconds", "Longest time since the last committed step.")
HOST_MEMORY_BYTES_PER_HOUR: Final = Threshold(
    "hostMemoryBytesPerHour", 2**30, "bytes per hour", "Largest growth of a process's resident memory."
)
CHILD_RESTARTS_PER_HOUR: Final = Threshold("childRestartsPerHour", 1, "attempts", "Most new attempts at a phase within an hour.")
RECONCILE_ERRORS: Final = Threshold("reconcileErrors", 5, "errors", "Most failed looks at runs within 15 minutes.")

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
