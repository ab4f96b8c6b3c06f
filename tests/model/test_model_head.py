"""The head's loss and gradients, made chunk by chunk, equal those of torch's own functions on the whole logits."""

import pytest
import torch
from torch import nn

from visionr1.capacity.memory import LOGIT_CHUNK
from visionr1.model.head import BAN, Head

N, VOCABULARY, WIDTH = 2 * LOGIT_CHUNK + 7, 50, 16
BANNED = [3, 49]


def planted(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor, nn.Parameter]:
    """Hidden states, targets and the head's weight."""
    generator = torch.Generator().manual_seed(0)
    hidden_ND = torch.randn(N, WIDTH, generator=generator).to(dtype).requires_grad_()
    weight_VD = nn.Parameter(torch.randn(VOCABULARY, WIDTH, generator=generator).to(dtype))
    return hidden_ND, torch.randint(VOCABULARY, (N,), generator=generator), weight_VD


def token_loss(logps_C: torch.Tensor, part: slice) -> torch.Tensor:
    """As a clipped surrogate with a KL penalty: not linear, and other for each token."""
    weights_C = torch.linspace(-1, 1, N, dtype=logps_C.dtype)[part]
    return weights_C * (logps_C - logps_C.detach()).exp() + 0.1 * (logps_C + 2.0).square() / N


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("scale", [1.0, 8.0])
def test_loss_and_gradients_equal_those_of_the_whole_logits(temperature: float, scale: float) -> None:
    hidden_ND, targets_N, weight_VD = planted()
    stats = Head(weight_VD, VOCABULARY, BANNED, temperature)(hidden_ND, targets_N, token_loss)
    (scale * stats.loss).backward()
    exact_ND, exact_VD = (tensor.detach().double().requires_grad_() for tensor in (hidden_ND, weight_VD))
    ban_V = torch.zeros(VOCABULARY, dtype=torch.float64).index_fill(0, torch.tensor(BANNED), BAN)
    logps_NV = ((exact_ND @ exact_VD.T + ban_V) / temperature).log_softmax(dim=-1)
    logps_N = logps_NV.gather(1, targets_N[:, None])[:, 0]
    loss = token_loss(logps_N, slice(None)).sum()
    torch.autograd.backward(scale * loss)
    assert stats.loss.item() == pytest.approx(loss.item(), rel=1e-6)
    for ours, exact in (
        (stats.logps_N, logps_N.detach()),
        (stats.entropy_N, -(logps_NV.exp() * logps_NV).sum(dim=-1).detach()),
        (hidden_ND.grad, exact_ND.grad),
        (weight_VD.grad, exact_VD.grad),
    ):
        assert ours is not None and exact is not None
        assert float((ours - exact).abs().max() / exact.abs().max()) < 1e-6


def test_log_probs_without_a_loss_are_the_same_bits_and_have_no_gradient() -> None:
    hidden_ND, targets_N, weight_VD = planted()
    head = Head(weight_VD, VOCABULARY, BANNED, 0.7)
    alone, trained = head(hidden_ND, targets_N), head(hidden_ND, targets_N, token_loss)
    assert torch.equal(alone.logps_N, trained.logps_N)
    assert alone.loss is None and alone.entropy_N is None
    assert not alone.logps_N.requires_grad and not trained.logps_N.requires_grad


def test_a_frozen_head_costs_no_gradient() -> None:
    hidden_ND, targets_N, weight_VD = planted()
    weight_VD.requires_grad_(False)
    Head(weight_VD, VOCABULARY, BANNED, 1.0)(hidden_ND, targets_N, token_loss).loss.backward()
    assert weight_VD.grad is None and hidden_ND.grad is not None


def test_bfloat16_logits_become_float32_before_the_softmax() -> None:
    hidden_ND, targets_N, weight_VD = planted(torch.bfloat16)
    stats = Head(weight_VD, VOCABULARY, BANNED, 1.0).bfloat16()(hidden_ND, targets_N, token_loss)
    stats.loss.backward()
    assert stats.logps_N.dtype == stats.entropy_N.dtype == torch.float32
    assert hidden_ND.grad is not None and hidden_ND.grad.dtype == torch.bfloat16
    logits_NV = (hidden_ND @ weight_VD.T).detach().float()
    logits_NV[:, BANNED] = (logits_NV[:, BANNED] + BAN).bfloat16().float()
    expected_N = logits_NV.log_softmax(dim=-1).gather(1, targets_N[:, None])[:, 0]
    torch.testing.assert_close(stats.logps_N, expected_N, rtol=1e-6, atol=1e-5)
