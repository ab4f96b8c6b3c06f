"""Loss, its gradient and advantages against an independent reference in plain numpy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from visionr1.grpo.advantage import advantages, zero_signal_ratio
from visionr1.grpo.loss import MAX_LOG_RATIO, grpo_terms, kl_estimate, token_weights
from visionr1.recipe.schema import Algorithm

logp = st.floats(-12, 0, width=32)
any_logp = st.one_of(logp, st.just(-math.inf), st.floats(-140, -80, width=32))
"""Banned tokens, too: their log-prob is about -100 (`visionr1.model.policy.BAN`), and -inf where an engine masks them."""

algorithms = st.builds(
    Algorithm,
    clip_low=st.sampled_from([0.1, 0.2, 0.9]),
    clip_high=st.sampled_from([0.2, 0.28, 2.0]),
    dual_clip=st.sampled_from([None, 1.5, 3.0]),
    kl_beta=st.sampled_from([0.0, 0.01, 1.0]),
    kl_estimator=st.sampled_from(["k1", "k2", "k3"]),
    loss_aggregation=st.sampled_from(["token_mean", "sequence_mean"]),
)

Drawn = tuple[list[int], list[float], list[float], list[float], list[float]]
"""Lengths, and what the loss takes of each token and completion: log-probs now, old and of the reference, advantages."""


def apart(one: float, other: float) -> tuple[float, bool]:
    """The difference of two log-probs as the loss takes it, and whether it moves with them."""
    if one == other == -math.inf:
        return 0.0, False
    return min(max(one - other, -MAX_LOG_RATIO), MAX_LOG_RATIO), abs(one - other) <= MAX_LOG_RATIO


def reference(
    now: list[float], old: list[float], base: list[float], advantage: list[float], lengths: list[int], algorithm: Algorithm
) -> tuple[float, np.ndarray]:
    """Equation 1, one token at a time in float64: the loss and its derivative by each token's log-prob."""
    owners = np.repeat(np.arange(len(lengths)), lengths)
    losses, slopes = np.zeros(len(now)), np.zeros(len(now))
    for place, owner in enumerate(owners):
        a = float(advantage[owner])
        step, moves = apart(now[place], old[place])
        ratio = math.exp(step)
        clipped = min(max(ratio, 1 - algorithm.clip_low), 1 + algorithm.clip_high)
        surrogate, slope = ratio * a, ratio * a * moves
        if clipped * a < surrogate:
            surrogate, slope = clipped * a, 0.0
        if algorithm.dual_clip is not None and a < 0 and algorithm.dual_clip * a > surrogate:
            surrogate, slope = algorithm.dual_clip * a, 0.0
        losses[place], slopes[place] = -surrogate, -slope
        if algorithm.kl_beta > 0:
            d, moves = apart(base[place], now[place])
            kl = {"k1": -d, "k2": d * d / 2, "k3": math.exp(d) - d - 1}[algorithm.kl_estimator]
            by_now = {"k1": 1.0, "k2": -d, "k3": 1 - math.exp(d)}[algorithm.kl_estimator]
            losses[place] += algorithm.kl_beta * kl
            slopes[place] += algorithm.kl_beta * by_now * moves
    sizes = np.array(lengths)[owners]
    weights = np.full(len(now), 1 / len(now)) if algorithm.loss_aggregation == "token_mean" else 1 / (sizes * len(lengths))
    return float((weights * losses).sum()), weights * slopes


@st.composite
def micro_batch(draw: st.DrawFn, values: st.SearchStrategy[float] = logp) -> Drawn:
    lengths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=5))
    n = sum(lengths)
    now, old, base = (draw(st.lists(values, min_size=n, max_size=n)) for _ in range(3))
    if draw(st.booleans()):
        old = list(now)
    # At the very border of the clamp there is no derivative to compare.
    assume(all(abs(one - other) != MAX_LOG_RATIO for others in (old, base) for one, other in zip(now, others, strict=True)))
    advantage = draw(st.lists(st.floats(-3, 3, width=32), min_size=len(lengths), max_size=len(lengths)))
    return lengths, now, old, base, advantage


def ours(drawn: Drawn, algorithm: Algorithm, dtype: torch.dtype = torch.float64) -> tuple[float, np.ndarray]:
    lengths, now, old, base, advantage = drawn
    owner_N = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    now_N, old_N, base_N = (torch.tensor(values, dtype=dtype) for values in (now, old, base))
    now_N.requires_grad_()
    advantages_N = torch.tensor(advantage, dtype=dtype)[owner_N]
    terms = grpo_terms(now_N, old_N, base_N if algorithm.kl_beta > 0 else None, advantages_N, algorithm)
    weights_N = token_weights(owner_N, algorithm.loss_aggregation, len(now), len(lengths))
    loss = (weights_N.to(dtype) * terms.loss_N).sum()
    loss.backward()
    assert now_N.grad is not None
    return float(loss.detach()), now_N.grad.double().numpy()


@settings(max_examples=150)
@given(micro_batch(), algorithms)
def test_loss_and_gradient_equal_the_reference(drawn: Drawn, algorithm: Algorithm) -> None:
    lengths, now, old, base, advantage = drawn
    loss, slopes = reference(now, old, base, advantage, lengths, algorithm)
    got, gradient = ours(drawn, algorithm)
    assert got == pytest.approx(loss, rel=1e-6, abs=1e-6)
    assert gradient == pytest.approx(slopes, rel=1e-6, abs=1e-6)


@settings(max_examples=100)
@given(micro_batch(any_logp), algorithms)
def test_banned_tokens_leave_loss_and_gradient_finite_and_equal_to_the_reference(drawn: Drawn, algorithm: Algorithm) -> None:
    lengths, now, old, base, advantage = drawn
    loss, slopes = reference(now, old, base, advantage, lengths, algorithm)
    for dtype, precision in ((torch.float64, 1e-6), (torch.float32, 2e-4)):
        got, gradient = ours(drawn, algorithm, dtype)
        scale = max(1.0, abs(loss), float(np.abs(slopes).max()))
        assert math.isfinite(got) and np.isfinite(gradient).all()
        assert abs(got - loss) <= precision * scale
        if dtype == torch.float64:
            assert np.abs(gradient - slopes).max() <= precision * scale


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_a_log_prob_that_is_no_number_is_not_hidden(estimator: str) -> None:
    broken_N = torch.tensor([math.nan])
    assert kl_estimate(broken_N, torch.tensor([-1.0]), estimator).isnan().all()
    assert kl_estimate(torch.tensor([-1.0]), broken_N, estimator).isnan().all()


@settings(max_examples=50)
@given(micro_batch(), algorithms, st.data())
def test_the_loss_does_not_depend_on_where_the_batch_is_cut(drawn: Drawn, algorithm: Algorithm, data: st.DataObject) -> None:
    lengths, *values, advantage = drawn
    cut = data.draw(st.integers(0, len(lengths)))
    whole = ours(drawn, algorithm)[0]
    parts = 0.0
    for chosen in (slice(0, cut), slice(cut, None)):
        if not lengths[chosen]:
            continue
        tokens = slice(sum(lengths[: chosen.start or 0]), sum(lengths[: chosen.stop]) if chosen.stop is not None else None)
        owner_N = torch.repeat_interleave(torch.arange(len(lengths[chosen])), torch.tensor(lengths[chosen]))
        now_N, old_N, base_N = (torch.tensor(each[tokens], dtype=torch.float64) for each in values)
        advantages_N = torch.tensor(advantage[chosen], dtype=torch.float64)[owner_N]
        terms = grpo_terms(now_N, old_N, base_N if algorithm.kl_beta > 0 else None, advantages_N, algorithm)
        weights_N = token_weights(owner_N, algorithm.loss_aggregation, sum(lengths), len(lengths))
        parts += float((weights_N.double() * terms.loss_N).sum())
    assert parts == pytest.approx(whole, rel=1e-6, abs=1e-6)


def test_on_policy_gradient_is_the_policy_gradient() -> None:
    now_N = torch.tensor([-0.5, -2.0, -7.0], requires_grad=True)
    terms = grpo_terms(now_N, now_N.detach(), None, torch.tensor([1.5, -0.5, 0.0]), Algorithm(kl_beta=0))
    terms.loss_N.sum().backward()
    torch.testing.assert_close(now_N.grad, torch.tensor([-1.5, 0.5, 0.0]))
    assert not bool(terms.clipped_N.any())


def test_a_banned_tokens_log_prob_does_not_poison_the_kl() -> None:
    same_N = torch.tensor([-100.0, -80.0, -math.inf])
    for estimator in ("k1", "k2", "k3"):
        assert kl_estimate(same_N, same_N, estimator).tolist() == [0.0, 0.0, 0.0]


def test_only_the_clipped_side_counts_as_clipped() -> None:
    old_N = torch.zeros(4)
    now_N = torch.tensor([0.5, 0.5, -0.5, -0.5])
    terms = grpo_terms(now_N, old_N, None, torch.tensor([1.0, -1.0, 1.0, -1.0]), Algorithm(kl_beta=0))
    assert terms.clipped_N.tolist() == [True, False, False, True]


@st.composite
def reward_groups(draw: st.DrawFn) -> list[list[float]]:
    """Groups of one size; some are all equal, as a hard reward often makes them."""
    size = draw(st.integers(2, 16))
    reward = draw(st.sampled_from([st.sampled_from([0.0, 1.0]), st.floats(0, 1), st.floats(-1000, 1000, width=32)]))
    group = st.one_of(st.lists(reward, min_size=size, max_size=size), reward.map(lambda value: [value] * size))
    return draw(st.lists(group, min_size=1, max_size=4))


@settings(max_examples=100)
@given(reward_groups(), st.booleans())
def test_advantages_equal_the_reference(rewards: list[list[float]], by_std: bool) -> None:
    given_PG = np.array(rewards)
    ours = advantages(given_PG, by_std)
    np.testing.assert_array_equal(given_PG, np.array(rewards), "the rewards themselves stay as they are")
    for group, row in zip(rewards, ours, strict=True):
        mean = math.fsum(group) / len(group)
        if max(group) == min(group):
            assert row.tolist() == [0.0] * len(group)
            continue
        std = math.sqrt(math.fsum((r - mean) ** 2 for r in group) / (len(group) - 1))
        expected = [(r - mean) / (std + 1e-6) if by_std else r - mean for r in group]
        assert row.tolist() == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_a_group_of_equal_rewards_moves_nothing_but_the_kl() -> None:
    rewards_PG = np.full((1, 4), 0.3)  # whose mean is not 0.3 to the last bit
    owner_N = torch.tensor([0, 1, 2, 3])
    now_N = torch.full((4,), -1.0, requires_grad=True)
    advantages_N = torch.tensor(advantages(rewards_PG, True).ravel(), dtype=torch.float32)[owner_N]
    grpo_terms(now_N, now_N.detach(), None, advantages_N, Algorithm(kl_beta=0)).loss_N.sum().backward()
    assert now_N.grad is not None and now_N.grad.tolist() == [0.0] * 4


def test_groups_without_signal_are_counted() -> None:
    assert zero_signal_ratio(np.array([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])) == 0.5


def test_weights_of_a_batch_sum_to_one_however_it_is_cut() -> None:
    owner_N = torch.tensor([0, 0, 0, 1, 2, 2])
    for aggregation in ("token_mean", "sequence_mean"):
        whole = float(token_weights(owner_N, aggregation, 6, 3).sum())
        cut = float(token_weights(owner_N[:3], aggregation, 6, 3).sum() + token_weights(owner_N[3:] - 1, aggregation, 6, 3).sum())
        assert whole == pytest.approx(1.0) == cut
