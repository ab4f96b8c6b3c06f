"""Attention over packed rows without a mask: each sequence costs its own length squared and no more.

transformers calls the two functions here under the names TEXT and VISION. A name that has no
mask function there gets no mask, and one with "flash" in it gets the boundaries of the vision tower's windows in place of a
Python loop over them. On CUDA both are one call of torch's variable-length flash kernel. On a CPU the text model takes one call
per sequence, and the vision tower one call per distinct window length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

TEXT: Final = "visionr1_packed"
VISION: Final = "visionr1_flash_windows"


@dataclass(frozen=True)
class Span:
    """Consecutive places of a packed row that form one causal sequence.

    Attributes:
        start: first place in the row.
        length: number of places.
        prefix: start and length of an earlier span that all of these places see whole, or None.
    """

    start: int
    length: int
    prefix: tuple[int, int] | None = None

    @property
    def key_length(self) -> int:
        """Places that the last one of the span sees, itself included."""
        return self.length + (self.prefix[1] if self.prefix else 0)


class Spans:
    """The spans of one packed row, which cover it without gaps and in order, and what the attention kernels need of them.

    Built once per row and used by every layer.
    """

    def __init__(self, spans: Sequence[Span], device: torch.device) -> None:
        self.spans = tuple(spans)
        self._device = device
        if device.type == "cpu":
            self.masks = [_prefix_mask(span) for span in self.spans]
        else:
            self.varlen = Varlen.of(self.spans, device)

    def to(self, device: torch.device) -> Spans:
        """The same spans for another device."""
        return self if device == self._device else Spans(self.spans, device)


@dataclass(frozen=True)
class Varlen:
    """The spans as the variable-length kernel takes them.

    Attributes:
        key_places_K: int64, the places of all keys, span after span; None where each span sees itself only.
        cu_queries, cu_keys: int32 boundaries [spans + 1].
        max_queries, max_keys: the longest of each.
    """

    key_places_K: torch.Tensor | None
    cu_queries: torch.Tensor
    cu_keys: torch.Tensor
    max_queries: int
    max_keys: int

    @classmethod
    def of(cls, spans: Sequence[Span], device: torch.device) -> Varlen:
        """What the kernel needs for these spans, on `device`."""
        places = [place for span in spans for place in _key_places(span)] if any(span.prefix for span in spans) else None
        queries, keys = [span.length for span in spans], [span.key_length for span in spans]
        return cls(
            None if places is None else torch.tensor(places, dtype=torch.int64).to(device),
            _boundaries(queries, device),
            _boundaries(keys, device),
            max(queries),
            max(keys),
        )


def use_packed_attention(model: Qwen2_5_VLForConditionalGeneration) -> None:
    """Lets a loaded model compute attention with the functions here; each forward call of it then needs `packed=`.

    Only after loading, since transformers takes any name with "flash" in it for a kernel that it should download.
    """
    ALL_ATTENTION_FUNCTIONS.register(TEXT, packed_attention)
    ALL_ATTENTION_FUNCTIONS.register(VISION, window_attention)
    model.model.language_model.config._attn_implementation = TEXT
    model.model.visual.config._attn_implementation = VISION


def packed_attention(
    module: torch.nn.Module,
    query_1HTD: torch.Tensor,
    key_1GTD: torch.Tensor,
    value_1GTD: torch.Tensor,
    attention_mask: None,
    *,
    scaling: float,
    packed: Spans,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention of the text model within each span and to its prefix.

    Args:
        query_1HTD: queries of H heads; keys and values have G of them, and G divides H.
        packed: the row's spans; the forward call of the model passes it down.

    Returns:
        Values [1, T, H, D], and None for the attention weights, which no kernel here keeps.
    """
    if query_1HTD.is_cuda:
        return _packed_varlen(query_1HTD, key_1GTD, value_1GTD, packed.varlen, scaling), None
    grouped = query_1HTD.shape[1] != key_1GTD.shape[1]
    parts = []
    for span, mask in zip(packed.spans, packed.masks, strict=True):
        own = slice(span.start, span.start + span.length)
        key_1GKD, value_1GKD = key_1GTD[:, :, own], value_1GTD[:, :, own]
        if span.prefix is not None:
            seen = slice(span.prefix[0], sum(span.prefix))
            key_1GKD = torch.cat([key_1GTD[:, :, seen], key_1GKD], dim=2)
            value_1GKD = torch.cat([value_1GTD[:, :, seen], value_1GKD], dim=2)
        causal = mask is None
        parts.append(
            scaled_dot_product_attention(
                query_1HTD[:, :, own], key_1GKD, value_1GKD, mask, is_causal=causal, scale=scaling, enable_gqa=grouped
            )
        )
    return torch.cat(parts, dim=2).transpose(1, 2), None


def _packed_varlen(
    query_1HTD: torch.Tensor, key_1GTD: torch.Tensor, value_1GTD: torch.Tensor, varlen: Varlen, scaling: float
) -> torch.Tensor:
    """`packed_attention` in one call: each span's keys are gathered behind those of its prefix."""
    query_THD, key_KGD, value_KGD = (tensor[0].transpose(0, 1) for tensor in (query_1HTD, key_1GTD, value_1GTD))
    if varlen.key_places_K is not None:
        key_KGD, value_KGD = key_KGD[varlen.key_places_K], value_KGD[varlen.key_places_K]
    boundaries = varlen.cu_queries, varlen.cu_keys, varlen.max_queries, varlen.max_keys
    return _varlen(query_THD, key_KGD, value_KGD, *boundaries, scaling=scaling, causal=True)[None]


def window_attention(
    module: torch.nn.Module,
    query_1HTD: torch.Tensor,
    key_1HTD: torch.Tensor,
    value_1HTD: torch.Tensor,
    attention_mask: None,
    *,
    scaling: float,
    cu_seq_lens_q: torch.Tensor,
    max_length_q: int,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Full attention within each window (or picture) of the vision tower.

    Args:
        cu_seq_lens_q: int32 boundaries [windows + 1] of the windows, which cover T without gaps.
        max_length_q: the longest window.

    Returns:
        Values [1, T, H, D], and None.
    """
    if query_1HTD.is_cuda:
        query_THD, key_THD, value_THD = (tensor[0].transpose(0, 1) for tensor in (query_1HTD, key_1HTD, value_1HTD))
        boundaries = cu_seq_lens_q, cu_seq_lens_q, max_length_q, max_length_q
        return _varlen(query_THD, key_THD, value_THD, *boundaries, scaling=scaling, causal=False)[None], None
    query_HTD, key_HTD, value_HTD = query_1HTD[0], key_1HTD[0], value_1HTD[0]
    starts_W, lengths_W = cu_seq_lens_q[:-1].long(), cu_seq_lens_q.diff()
    order, parts = [], []
    for length in lengths_W.unique().tolist():
        places_WL = starts_W[lengths_W == length, None] + torch.arange(length)
        query_WHLD, key_WHLD, value_WHLD = (x_HTD[:, places_WL].transpose(0, 1) for x_HTD in (query_HTD, key_HTD, value_HTD))
        out_WHLD = scaled_dot_product_attention(query_WHLD, key_WHLD, value_WHLD, scale=scaling)
        parts.append(out_WHLD.transpose(1, 2).flatten(0, 1))
        order.append(places_WL.flatten())
    return torch.cat(parts)[torch.cat(order).argsort()][None], None


def _varlen(
    query_THD: torch.Tensor,
    key_KGD: torch.Tensor,
    value_KGD: torch.Tensor,
    cu_queries: torch.Tensor,
    cu_keys: torch.Tensor,
    max_queries: int,
    max_keys: int,
    *,
    scaling: float,
    causal: bool,
) -> torch.Tensor:
    """torch's flash kernel on CUDA. Causal: where a span has more keys than queries, its last query sees its last key."""
    out_THD = varlen_attn(
        query_THD.contiguous(),
        key_KGD.contiguous(),
        value_KGD.contiguous(),
        cu_queries,
        cu_keys,
        max_queries,
        max_keys,
        scale=scaling,
        window_size=(-1, 0) if causal else (-1, -1),
        enable_gqa=query_THD.shape[1] != key_KGD.shape[1],
    )
    assert isinstance(out_THD, torch.Tensor)  # a pair only where the kernel is asked for more
    return out_THD


def _prefix_mask(span: Span) -> torch.Tensor | None:
    """bool [length, key_length], the diagonal at the last key; None where plain causal attention serves."""
    if span.prefix is None:
        return None
    return torch.ones(span.length, span.key_length, dtype=torch.bool).tril(span.prefix[1])


def _key_places(span: Span) -> list[int]:
    prefix = range(span.prefix[0], sum(span.prefix)) if span.prefix else range(0)
    return [*prefix, *range(span.start, span.start + span.length)]


def _boundaries(lengths: Sequence[int], device: torch.device) -> torch.Tensor:
    """int32 [n + 1]: 0 and the running sums."""
    return torch.tensor([0, *lengths]).cumsum(0).to(torch.int32).to(device)
