"""Group-relative advantages (equation 2)."""

from __future__ import annotations

import numpy as np

EPSILON = 1e-6


def advantages(rewards_PG: np.ndarray, normalise_by_std: bool) -> np.ndarray:
    """How much better each completion is than its group's mean, in units of the group's spread.

    Args:
        rewards_PG: float64 rewards, one row a prompt, one column a completion.
        normalise_by_std: divide by the unbiased standard deviation plus 1e-6.

    Returns:
        float64 [P, G]. Exactly 0 for a group in which all rewards are equal.
    """
    centred_PG = rewards_PG - rewards_PG.mean(axis=1, keepdims=True)
    centred_PG[np.ptp(rewards_PG, axis=1) == 0] = 0.0
    if not normalise_by_std:
        return centred_PG
    return centred_PG / (rewards_PG.std(axis=1, ddof=1, keepdims=True) + EPSILON)


def zero_signal_ratio(rewards_PG: np.ndarray) -> float:
    """Share of groups in which all rewards are equal. Nothing is learned from them."""
    return float((np.ptp(rewards_PG, axis=1) == 0).mean())
