"""What is wrong with a run. Its step records are checked with the same thresholds as the alerts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from visionr1.recipe.phases import Phase
from visionr1.watch.thresholds import (
    CHECKPOINT_AGE_SECONDS,
    LENGTH_GROWTH_RATIO,
    MISMATCH_NATS,
    REWARD_DROP_RATIO,
    REWARD_SEEN,
    STALLED_SECONDS,
    TRUNCATED_AFTER_STEPS,
    TRUNCATED_RATIO,
    ZERO_SIGNAL_RATIO,
)

Records = Sequence[dict[str, Any]]

RECENT: Final = 5
"""The last steps, which are averaged. The alerts average over half an hour instead."""
BEFORE: Final = 20
"""The last steps are compared with those of so many steps ago. The alerts compare with two hours ago instead."""


def problems(phase: Phase, records: Records, running: bool, now: float) -> list[str]:
    """One line for each thing that is wrong, the worst first.

    Args:
        records: the phase's step records, oldest first.
        running: whether a process works on the phase.
        now: unix seconds.
    """
    if not records:
        return []
    checks: list[Iterator[str]] = [_not_finite(records)]
    if running:
        checks.append(_too_long_ago(records, now))
    if phase.kind == "grpo":
        checks += [_reward(records), _engine(records), _signal(records, phase), _length(records)]
    return [line for check in checks for line in check]


def _not_finite(records: Records) -> Iterator[str]:
    last = records[-1]
    for key, name in (("loss", "loss"), ("grad_norm", "gradient norm")):
        if key in last and last[key] is None:  # as the step log writes NaN and infinity
            yield f"{name} of step {last['step']} is not finite"


def _too_long_ago(records: Records, now: float) -> Iterator[str]:
    ended = [record["time"] for record in records if record["time"] is not None]
    if not ended:
        return
    silent = now - ended[-1]
    if silent > STALLED_SECONDS.default:
        yield f"no step has ended for {silent / 60:.0f} minutes"
    saved = [one["time"] for one in records if one["time"] is not None and one.get("step_seconds", {}).get("checkpoint")]
    age = now - (saved[-1] if saved else ended[0])
    if age > CHECKPOINT_AGE_SECONDS.default:
        yield f"the last checkpoint is {age / 3600:.1f} hours old"


def _reward(records: Records) -> Iterator[str]:
    means = [mean for end in range(RECENT, len(records) + 1) if (mean := _mean(records[end - RECENT : end], "reward_mean"))]
    best = max(means, default=0.0)
    if best > REWARD_SEEN.default and (recent := _recent(records, "reward_mean")) < REWARD_DROP_RATIO.default * best:
        yield f"reward collapsed: it is {recent:.2f} now and was {best:.2f}"


def _engine(records: Records) -> Iterator[str]:
    measured = [records[-1].get(key) for key in ("logprob_mismatch", "parity_probe_mean")]
    mismatch = max((value for value in measured if value is not None), default=0.0)
    if mismatch > MISMATCH_NATS.default:
        yield f"engine and trainer disagree by {mismatch:.3f} nats per token"


def _signal(records: Records, phase: Phase) -> Iterator[str]:
    truncated = _recent(records, "completion_truncated_ratio")
    if truncated > TRUNCATED_RATIO.default and records[-1]["step"] - phase.first_step > TRUNCATED_AFTER_STEPS.default:
        yield f"truncation is high: {truncated:.0%} of the completions are cut at the stage's limit"
    zero = _recent(records, "advantage_zero_std_ratio")
    if zero > ZERO_SIGNAL_RATIO.default:
        yield f"zero signal: in {zero:.0%} of the groups all rewards are equal, so nothing is learned from them"


def _length(records: Records) -> Iterator[str]:
    before = records[:-BEFORE][-RECENT:]
    if len(before) < RECENT:
        return
    grown = _recent(records, "completion_tokens_mean"), _mean(before, "completion_tokens_mean")
    if grown[0] > LENGTH_GROWTH_RATIO.default * grown[1] and _recent(records, "reward_mean") >= _mean(before, "reward_mean"):
        yield f"overthinking: length grew from {grown[1]:.0f} to {grown[0]:.0f} tokens, and the reward did not fall"


def _recent(records: Records, key: str) -> float:
    return _mean(records[-RECENT:], key)


def _mean(records: Records, key: str) -> float:
    """Mean of the values that exist. 0 if there are none."""
    values = [record[key] for record in records if record.get(key) is not None]
    return sum(values) / len(values) if values else 0.0
