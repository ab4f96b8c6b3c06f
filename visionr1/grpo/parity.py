"""Whether a step is sound: finite, and sampled from the policy that is trained. The limits, and what to say when it is not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from visionr1.recipe.schema import Recipe
from visionr1.rollout.types import Sampling

LIMITS = {"float32": 3e-5, "bfloat16": 0.05}
"""Mean absolute difference of log-probs that is allowed, in nats, by `model.dtype`.

On the demo's model rounding alone makes less than 2e-6 in float32 and 4e-3 in bfloat16, and a head that missed one
update 3e-4.
"""

LARGEST = 100
"""One token alone may be off by so many times the limit of the mean."""


@dataclass(frozen=True)
class Gap:
    """Absolute differences between the engine's log-probs and the trainer's over some tokens, in nats."""

    mean: float
    largest: float


@dataclass(frozen=True)
class Probe:
    """What one worker found right after a weight sync.

    Attributes:
        problem: tokens sampled for a problem of the last rollout. The engine has seen its pictures.
        words: the same for the problem's text alone.
    """

    problem: Gap
    words: Gap


def probe_sampling(recipe: Recipe) -> Sampling:
    """How a probe samples: as training does, but few tokens, and of the whole vocabulary."""
    return Sampling(n=4, max_tokens=16, temperature=recipe.rollout.temperature)


def probe_stats(probes: Sequence[Probe]) -> dict[str, float]:
    """The step record's values of a probe: the worst of all workers."""
    gaps = [gap for probe in probes for gap in (probe.problem, probe.words)]
    return {"parity_probe_mean": max(gap.mean for gap in gaps), "parity_probe_max": max(gap.largest for gap in gaps)}


def unsound(stats: dict[str, float]) -> str | None:
    """What is wrong with an update by itself, in one line; None for a sound one."""
    if math.isfinite(stats["loss"]) and math.isfinite(stats["grad_norm"]):
        return None
    return (
        f"loss {stats['loss']} and gradient norm {stats['grad_norm']} are not finite; "
        "lower optimiser.learning_rate, then start again from the last checkpoint"
    )


def fault(recipe: Recipe, stats: dict[str, float], probes: Sequence[Probe]) -> str | None:
    """What is wrong between engine and trainer, in one line; None while they agree.

    Args:
        stats: of the update, over all tokens of the rollout batch.
        probes: one a worker if this step had a probe, else none.
    """
    limit = recipe.rollout.mismatch_limit or LIMITS[recipe.model.dtype]
    for probe in probes:
        if not _within(probe.words, limit):
            return _message("right after the weight sync, even where no picture is in the prompt", probe.words, limit, _WORDS)
        if not _within(probe.problem, limit):
            return _message("right after the weight sync, only where pictures are in the prompt", probe.problem, limit, _PICTURES)
    rollouts = Gap(stats["logprob_mismatch"], stats["logprob_mismatch_max"])
    # A nucleus keeps at least top_p of the mass, so it raises no token's log-prob by more.
    limit -= math.log(recipe.rollout.top_p)
    return None if _within(rollouts, limit) else _message("in this step's rollouts", rollouts, limit, _ROLLOUTS)


_WORDS = (
    "the engine does not serve the trained weights (a part that the sync did not reach, such as a head tied to the "
    "embeddings), or the trainer takes another rollout.temperature"
)
_PICTURES = (
    "the engine kept image embeddings or prefixes of old weights, or the trainer's positions lack the image tokens' types "
    "(mm_token_type_ids)"
)
_ROLLOUTS = (
    "the engine did not sample from the policy that is trained; probe after every sync (rollout.parity_every=1) to see "
    "which part is at fault"
)


def _message(where: str, gap: Gap, limit: float, cause: str) -> str:
    return (
        f"{where}, the engine's log-probs differ from the trainer's by {gap.mean:.3g} on average and {gap.largest:.3g} at most; "
        f"rollout.mismatch_limit allows {limit:.3g} ({LARGEST * limit:.3g} for one token): {cause}"
    )


def _within(gap: Gap, limit: float) -> bool:
    """False for a gap that is no number, too."""
    return gap.mean <= limit and gap.largest <= LARGEST * limit
