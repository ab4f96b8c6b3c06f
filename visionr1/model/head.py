"""The head of the policy: log-probs of target tokens, and the gradients of a loss of them, without ever holding the full logits.

The logits of a few hundred tokens at a time are made in two buffers, which all chunks of a row share. A loss is a sum over tokens
of a function of each token's log-prob. So its gradients are known as soon as a chunk's log-probs are, and the backward pass needs
the logits no second time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from visionr1.capacity.memory import LOGIT_CHUNK

BAN = -100.0
"""Added to the logit of a banned token, in sampling (vLLM's logit_bias) and here."""

TokenLoss = Callable[[torch.Tensor, slice], torch.Tensor]
"""Log-probs [C] of some tokens of a row, and which ones of its N: what each adds to the loss [C]."""


class TokenStats(NamedTuple):
    """Of the target tokens of a packed row, float32.

    `entropy_N` and `loss` are there only where a loss was asked for. `loss` is a scalar and the only one with a gradient.
    """

    logps_N: torch.Tensor
    entropy_N: torch.Tensor | None
    loss: torch.Tensor | None


class Head(nn.Module):
    """The output layer [V, D] of a language model under its own name, so that ZeRO-3 gathers its weight.

    Args:
        weight_VD: the layer's weight; under ZeRO-3 an empty stub until it is used.
        vocabulary: V.
        banned_token_ids: tokens with lowered logits, as in sampling.
        temperature: what logits are divided by, as in sampling.
    """

    ban_V: torch.Tensor

    def __init__(self, weight_VD: nn.Parameter, vocabulary: int, banned_token_ids: list[int], temperature: float):
        super().__init__()
        self.weight = weight_VD
        self.temperature = temperature
        ban_V = torch.zeros(vocabulary)
        ban_V[banned_token_ids] = BAN
        self.register_buffer("ban_V", ban_V, persistent=False)

    def forward(self, hidden_ND: torch.Tensor, targets_N: torch.Tensor, token_loss: TokenLoss | None = None) -> TokenStats:
        """Log-probs of the targets; with `token_loss` also the entropies and the loss."""
        if token_loss is None:
            with torch.no_grad():
                chunks = self.chunks(hidden_ND, self.weight, targets_N)
                return TokenStats(torch.cat([logps_C for _, logps_C, _, _ in chunks]), None, None)
        loss, logps_N, entropy_N = _HeadLoss.apply(hidden_ND, self.weight, targets_N, self, token_loss)
        return TokenStats(logps_N, entropy_N, loss)

    def chunks(
        self, hidden_ND: torch.Tensor, weight_VD: torch.Tensor, targets_N: torch.Tensor
    ) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Some tokens at a time: which, their targets' log-probs [C], all log-probs [C, V], and a free buffer [C, V].

        The last two are written over by the next chunk.
        """
        longest = min(LOGIT_CHUNK, len(targets_N))
        logits_LV, logps_LV = (hidden_ND.new_empty(longest, len(self.ban_V), dtype=torch.float32) for _ in range(2))
        for hidden_CD, targets_C, first in zip(
            hidden_ND.split(LOGIT_CHUNK), targets_N.split(LOGIT_CHUNK), range(0, len(targets_N), LOGIT_CHUNK), strict=True
        ):
            count = len(targets_C)
            logits_CV, logps_CV = logits_LV[:count], logps_LV[:count]
            # vLLM's order: bias, then temperature, then log-softmax in float32.
            if hidden_CD.dtype == torch.float32:
                torch.addmm(self.ban_V, hidden_CD, weight_VD.T, out=logits_CV)
            else:
                torch.add(hidden_CD @ weight_VD.T, self.ban_V, out=logits_CV)
            if self.temperature != 1.0:
                logits_CV /= self.temperature
            torch.log_softmax(logits_CV, dim=-1, out=logps_CV)
            yield slice(first, first + count), logps_CV.gather(1, targets_C[:, None])[:, 0], logps_CV, logits_CV


class _HeadLoss(torch.autograd.Function):
    """The loss of a row; its gradients are made together with it and wait for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: torch.Tensor,
        weight_VD: torch.Tensor,
        targets_N: torch.Tensor,
        head: Head,
        token_loss: TokenLoss,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        grad_hidden_ND = torch.empty_like(hidden_ND)
        grad_weight_VD = torch.zeros_like(weight_VD) if ctx.needs_input_grad[1] else None
        logps, entropies = [], []
        loss = torch.zeros((), device=hidden_ND.device)
        for part, logps_C, logps_CV, free_CV in head.chunks(hidden_ND, weight_VD, targets_N):
            with torch.enable_grad():
                leaf_C = logps_C.requires_grad_()
                part_loss = token_loss(leaf_C, part).sum()
            (grad_C,) = torch.autograd.grad(part_loss, leaf_C)
            loss += part_loss.detach()
            probs_CV = torch.exp(logps_CV, out=free_CV)
            entropies.append(-torch.linalg.vecdot(probs_CV, logps_CV))
            logps.append(leaf_C.detach())
            # d logp / d logits: one at the target, less the probabilities.
            grad_C = grad_C[:, None] / head.temperature
            grad_CV = probs_CV.mul_(-grad_C).scatter_add_(1, targets_N[part, None], grad_C).to(weight_VD.dtype)
            torch.mm(grad_CV, weight_VD, out=grad_hidden_ND[part])
            if grad_weight_VD is not None:
                grad_weight_VD.addmm_(grad_CV.T, hidden_ND[part])
        ctx.grads = grad_hidden_ND, grad_weight_VD
        logps_N, entropy_N = torch.cat(logps), torch.cat(entropies)
        ctx.mark_non_differentiable(logps_N, entropy_N)
        return loss, logps_N, entropy_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: torch.Tensor, *_: Any) -> tuple[torch.Tensor | None, ...]:
        grad_hidden_ND, grad_weight_VD = ctx.grads
        del ctx.grads
        scaled_weight_VD = None if grad_weight_VD is None else grad_weight_VD.mul_(grad_loss)
        return grad_hidden_ND.mul_(grad_loss), scaled_weight_VD, None, None, None
