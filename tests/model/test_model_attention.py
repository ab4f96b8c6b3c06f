"""The calls of the CUDA kernel, played by a plain loop on the CPU, give what the CPU path gives."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from visionr1.model import attention
from visionr1.model.attention import Span, Spans, Varlen, packed_attention, window_attention

CPU = torch.device("cpu")
SPANS = [Span(0, 9), Span(9, 4, prefix=(0, 5)), Span(13, 1, prefix=(0, 5)), Span(14, 6), Span(20, 3, prefix=(14, 2))]


def played_varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_q: torch.Tensor,
    cu_k: torch.Tensor,
    max_q: int,
    max_k: int,
    *,
    scaling: float,
    causal: bool,
) -> torch.Tensor:
    """What torch documents of its kernel: one sequence after the other, the causal diagonal at the last key."""
    assert cu_q.dtype == cu_k.dtype == torch.int32
    assert max_q == int(cu_q.diff().max()) and max_k == int(cu_k.diff().max())
    assert int(cu_q[-1]) == len(query) and int(cu_k[-1]) == len(key) == len(value)
    parts = []
    for q0, q1, k0, k1 in zip(cu_q[:-1], cu_q[1:], cu_k[:-1], cu_k[1:], strict=True):
        q, k, v = query[q0:q1].transpose(0, 1), key[k0:k1].transpose(0, 1), value[k0:k1].transpose(0, 1)
        mask = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool)
        mask = mask.tril(k.shape[1] - q.shape[1]) if causal else mask
        parts.append(scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=mask, scale=scaling, enable_gqa=True)[0])
    return torch.cat(parts, dim=1).transpose(0, 1)


def tensors(heads: int, places: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(heads)
    return torch.randn(1, heads, places, 8, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("spans", [SPANS, [Span(0, 23)], [Span(0, 11), Span(11, 12)]])
def test_the_packed_kernel_call(monkeypatch: pytest.MonkeyPatch, spans: list[Span]) -> None:
    monkeypatch.setattr(attention, "_varlen", played_varlen)
    query, key, value = tensors(4, 23), tensors(2, 23), tensors(2, 23) + 1
    ours, _ = packed_attention(torch.nn.Identity(), query, key, value, None, scaling=0.3, packed=Spans(spans, CPU))
    kernel = attention._packed_varlen(query, key, value, Varlen.of(spans, CPU), 0.3)
    assert ours.shape == kernel.shape == (1, 23, 4, 8)
    torch.testing.assert_close(ours, kernel)


def test_a_place_sees_its_prefix_and_its_own_span_only() -> None:
    query, key, value = tensors(2, 23), tensors(2, 23), tensors(2, 23)
    before, _ = packed_attention(torch.nn.Identity(), query, key, value, None, scaling=1.0, packed=Spans(SPANS, CPU))
    seen = {0: [0], 8: range(9), 9: [*range(5), 9], 12: [*range(5), *range(9, 13)], 13: [*range(5), 13], 22: [14, 15, 20, 21, 22]}
    for place, visible in seen.items():
        for other in range(23):
            changed = value.clone()
            changed[:, :, other] += 1
            after, _ = packed_attention(torch.nn.Identity(), query, key, changed, None, scaling=1.0, packed=Spans(SPANS, CPU))
            assert bool((after[0, place] != before[0, place]).any()) == (other in visible), (place, other)


@pytest.mark.parametrize("lengths", [[16, 16, 16], [4, 16, 4, 1], [7]])
def test_windows_of_any_length(monkeypatch: pytest.MonkeyPatch, lengths: list[int]) -> None:
    places = sum(lengths)
    query, key, value = tensors(3, places), tensors(3, places) + 1, tensors(3, places) + 2
    boundaries = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    longest = max(lengths)
    ours, _ = window_attention(
        torch.nn.Identity(), query, key, value, None, scaling=0.5, cu_seq_lens_q=boundaries, max_length_q=longest
    )
    windows = [slice(start, start + length) for start, length in zip(boundaries.tolist(), lengths, strict=False)]
    one_by_one = [
        scaled_dot_product_attention(query[:, :, window], key[:, :, window], value[:, :, window], scale=0.5) for window in windows
    ]
    torch.testing.assert_close(ours, torch.cat(one_by_one, dim=2).transpose(1, 2))
    query_THD, key_THD, value_THD = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    kernel = played_varlen(query_THD, key_THD, value_THD, boundaries, boundaries, longest, longest, scaling=0.5, causal=False)
    torch.testing.assert_close(ours[0], kernel)
