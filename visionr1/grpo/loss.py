"""The GRPO objective (equation 1) as pure functions over the tokens of a micro-batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from visionr1.recipe.schema import Algorithm


@dataclass(frozen=True)
class LossTerms:
    """Of each token, float32 [N]: what is minimised, the KL estimate, and whether the ratio was clipped."""

    loss_N: torch.Tensor
    kl_N: torch.Tensor
    clipped_N: torch.Tensor


MAX_LOG_RATIO = 20.0
"""Further apart, two log-probs say only that they are far apart, and their ratio's infinity would make gradients NaN."""


def log_ratio(logps_N: torch.Tensor, other_logps_N: torch.Tensor) -> torch.Tensor:
    """Difference of two models' log-probs, within MAX_LOG_RATIO; 0 where both are -inf, as for a token that both ban."""
    impossible_N = logps_N.isneginf() & other_logps_N.isneginf()
    return (logps_N - other_logps_N).masked_fill(impossible_N, 0.0).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


def kl_estimate(logps_N: torch.Tensor, reference_logps_N: torch.Tensor, estimator: str) -> torch.Tensor:
    """Schulman's k1, k2 or k3 estimate of KL(policy || reference) at each token; k3 is the paper's."""
    difference_N = log_ratio(reference_logps_N, logps_N)
    if estimator == "k1":
        return -difference_N
    if estimator == "k2":
        return 0.5 * difference_N.square()
    return difference_N.exp() - difference_N - 1.0


def grpo_terms(
    logps_N: torch.Tensor,
    old_logps_N: torch.Tensor,
    reference_logps_N: torch.Tensor | None,
    advantages_N: torch.Tensor,
    algorithm: Algorithm,
) -> LossTerms:
    """Clipped surrogate and KL penalty of each token.

    Args:
        logps_N: log-probs of the sampled tokens under the policy, with gradient.
        old_logps_N: the same under the policy that sampled them, without gradient.
        reference_logps_N: the same under the reference model; None when `kl_beta` is 0.
        advantages_N: the advantage of each token's completion.
    """
    ratio_N = log_ratio(logps_N, old_logps_N).exp()
    clipped_ratio_N = ratio_N.clamp(1.0 - algorithm.clip_low, 1.0 + algorithm.clip_high)
    surrogate_N = torch.minimum(ratio_N * advantages_N, clipped_ratio_N * advantages_N)
    if algorithm.dual_clip is not None:
        bounded_N = torch.maximum(surrogate_N, algorithm.dual_clip * advantages_N)
        surrogate_N = torch.where(advantages_N < 0, bounded_N, surrogate_N)
    outside_N = (ratio_N * advantages_N) > (clipped_ratio_N * advantages_N)
    if reference_logps_N is None:
        return LossTerms(-surrogate_N, torch.zeros_like(logps_N), outside_N)
    kl_N = kl_estimate(logps_N, reference_logps_N, algorithm.kl_estimator)
    return LossTerms(algorithm.kl_beta * kl_N - surrogate_N, kl_N, outside_N)


def token_weights(sequence_N: torch.Tensor, aggregation: str, total_tokens: int, total_sequences: int) -> torch.Tensor:
    """Weight of each token, so that the weights of the whole global batch sum to 1.

    The totals are sums over all workers and micro-batches of an optimiser step, so the loss does not
    depend on how the batch is cut.

    Args:
        sequence_N: index of the completion that each token belongs to. All tokens of a completion are here.
    """
    if aggregation == "token_mean":
        return torch.full(sequence_N.shape, 1.0 / total_tokens, device=sequence_N.device)
    lengths_S = torch.bincount(sequence_N)
    return 1.0 / (lengths_S[sequence_N] * total_sequences)
