"""Loss and advantages against an independent reference in plain numpy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from visionr1.grpo.advantage import advantages, zero_signal_ratio
from visionr1.grpo.loss import grpo_terms, kl_estimate, token_weights
from visionr1.recipe.schema import Algorithm

logp = st.floats(-12, 0, width=32)


def reference_loss(now, old, reference, advantage, lengths, settings: Algorithm) -> float:
    """Equation 1, one token at a time in Python floats."""
    per_sequence, start = [], 0
    for sequence, length in enumerate(lengths):
        losses = []
        for place in range(start, start + length):
            ratio = math.exp(now[place] - old[place])
            clipped = min(max(ratio, 1 - settings.clip_low), 1 + settings.clip_high)
            surrogate = min(ratio * advantage[sequence], clipped * advantage[sequence])
            if settings.dual_clip is not None and advantage[sequence] < 0:
                surrogate = max(surrogate, settings.dual_clip * advantage[sequence])
            d = reference[place] - now[place]
            kl = {"k1": -d, "k2": d * d / 2, "k3": math.exp(d) - d - 1}[settings.kl_estimator]
            losses.append(-surrogate + settings.kl_beta * kl)
        per_sequence.append(losses)
        start += length
    if settings.loss_aggregation == "token_mean":
        return sum(map(sum, per_sequence)) / sum(lengths)
    return sum(sum(losses) / len(losses) for losses in per_sequence) / len(lengths)


@st.composite
def micro_batch(draw):
    lengths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=5))
    n = sum(lengths)
    values = [draw(st.lists(logp, min_size=n, max_size=n)) for _ in range(3)]
    advantage = draw(st.lists(st.floats(-3, 3, width=32), min_size=len(lengths), max_size=len(lengths)))
    return lengths, *values, advantage


@settings(max_examples=150, deadline=None)
@given(
    micro_batch(),
    st.sampled_from(["k1", "k2", "k3"]),
    st.sampled_from(["token_mean", "sequence_mean"]),
    st.sampled_from([None, 3.0]),
)
def test_loss_equals_the_reference(drawn, estimator, aggregation, dual_clip) -> None:
    lengths, now, old, reference, advantage = drawn
    algorithm = Algorithm(kl_estimator=estimator, loss_aggregation=aggregation, dual_clip=dual_clip, clip_high=0.28)
    owner_N = torch.tensor([s for s, length in enumerate(lengths) for _ in range(length)])
    tensors = [torch.tensor(values, dtype=torch.float64) for values in (now, old, reference)]
    terms = grpo_terms(*tensors, torch.tensor(advantage, dtype=torch.float64)[owner_N], algorithm)
    weights_N = token_weights(owner_N, aggregation, sum(lengths), len(lengths)).double()
    expected = reference_loss(now, old, reference, advantage, lengths, algorithm)
    assert float((weights_N * terms.loss_N).sum()) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_on_policy_gradient_is_the_policy_gradient() -> None:
    now_N = torch.tensor([-0.5, -2.0, -7.0], requires_grad=True)
    terms = grpo_terms(now_N, now_N.detach(), None, torch.tensor([1.5, -0.5, 0.0]), Algorithm(kl_beta=0))
    terms.loss_N.sum().backward()
    torch.testing.assert_close(now_N.grad, torch.tensor([-1.5, 0.5, 0.0]))
    assert not bool(terms.clipped_N.any())


def test_a_banned_tokens_log_prob_does_not_poison_the_kl() -> None:
    same_N = torch.tensor([-100.0, -80.0])
    assert kl_estimate(same_N, same_N, "k3").tolist() == [0.0, 0.0]


def test_only_the_clipped_side_counts_as_clipped() -> None:
    old_N = torch.zeros(4)
    now_N = torch.tensor([0.5, 0.5, -0.5, -0.5])
    terms = grpo_terms(now_N, old_N, None, torch.tensor([1.0, -1.0, 1.0, -1.0]), Algorithm(kl_beta=0))
    assert terms.clipped_N.tolist() == [True, False, False, True]


@given(st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), min_size=1, max_size=4), st.booleans())
def test_advantages_equal_the_reference(rewards, by_std) -> None:
    ours = advantages(np.array(rewards), by_std)
    for group, row in zip(rewards, ours, strict=True):
        mean = sum(group) / len(group)
        if max(group) == min(group):
            assert row.tolist() == [0.0] * len(group)
            continue
        std = math.sqrt(sum((r - mean) ** 2 for r in group) / (len(group) - 1))
        expected = [(r - mean) / (std + 1e-6) if by_std else r - mean for r in group]
        assert row.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_groups_without_signal_are_counted() -> None:
    assert zero_signal_ratio(np.array([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])) == 0.5


def test_weights_of_a_batch_sum_to_one_however_it_is_cut() -> None:
    owner_N = torch.tensor([0, 0, 0, 1, 2, 2])
    for aggregation in ("token_mean", "sequence_mean"):
        whole = float(token_weights(owner_N, aggregation, 6, 3).sum())
        cut = float(token_weights(owner_N[:3], aggregation, 6, 3).sum() + token_weights(owner_N[3:] - 1, aggregation, 6, 3).sum())
        assert whole == pytest.approx(1.0) == cut
