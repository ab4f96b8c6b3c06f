"""The policy: log-probs of completions from packed rows, without ever holding the full logits."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutputWithPooling

from visionr1.capacity.memory import LOGIT_CHUNK
from visionr1.model.pack import PackedRow

BAN = -100.0
"""Added to the logit of a banned token, in sampling (vLLM's logit_bias) and here."""


class TokenStats(NamedTuple):
    """Of each completion token of a packed row, float32: log-prob (with gradient) and entropy (without)."""

    logps_N: torch.Tensor
    entropy_N: torch.Tensor


class Policy(nn.Module):
    """Qwen2.5-VL as a module from a packed row to TokenStats.

    One forward does everything that touches parameters, so that ZeRO-3's hooks gather them.
    """

    def __init__(self, inner: Qwen2_5_VLForConditionalGeneration, banned_token_ids: list[int], temperature: float):
        super().__init__()
        self.inner = inner
        self.temperature = temperature
        ban_V = torch.zeros(inner.config.get_text_config().vocab_size)
        ban_V[banned_token_ids] = BAN
        self.register_buffer("ban_V", ban_V, persistent=False)

    def freeze_vision_tower(self) -> None:
        """Takes the vision tower out of training: its weights need no gradient."""
        self.inner.model.visual.requires_grad_(False)

    def forward(self, row: PackedRow) -> TokenStats:
        """Log-probs of the row's targets, with gradients where the caller has not switched them off."""
        if row.images is None:
            images = None
            vision_touch: torch.Tensor | float = self._touch_vision_tower(row.input_ids_1T.device)
        else:
            vision_touch = 0.0
            # Each prompt's pictures go through the vision tower once, however many completions it has.
            features = self.inner.model.get_image_features(row.images.pixel_values_PC, row.images.grid_thw_I3, return_dict=True)
            shared = tuple(features.pooler_output[index] for index in row.image_order)
            # A tuple, as transformers itself makes it; its annotation names a tensor.
            images = {"image": BaseModelOutputWithPooling(pooler_output=shared)}  # type: ignore[arg-type]
        hidden_1TD = self.inner.model(
            input_ids=row.input_ids_1T,
            position_ids=row.position_ids_41T,
            mm_encoder_outputs=images,
            use_cache=False,
            packed=row.spans,
        ).last_hidden_state
        hidden_ND = hidden_1TD[0, row.predict_N] + vision_touch
        stats = [
            checkpoint(self._chunk, hidden_CD, targets_C, use_reentrant=False)
            for hidden_CD, targets_C in zip(hidden_ND.split(LOGIT_CHUNK), row.targets_N.split(LOGIT_CHUNK), strict=True)
        ]
        return TokenStats(torch.cat([logps_C for logps_C, _ in stats]), torch.cat([entropy_C for _, entropy_C in stats]))

    def _touch_vision_tower(self, device: torch.device) -> torch.Tensor:
        """Zero, computed through the vision tower: under ZeRO-3 a rank without pictures must gather it with the others."""
        vision: Any = self.inner.config.vision_config
        patch = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
        side = vision.spatial_merge_size
        pixels_PC = torch.zeros(side * side, patch, device=device)
        features = self.inner.model.get_image_features(
            pixels_PC, torch.tensor([[1, side, side]], device=device), return_dict=True
        )
        return features.pooler_output[0].sum() * 0.0

    def _chunk(self, hidden_CD: torch.Tensor, targets_C: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # vLLM's order: bias, then temperature, then log-softmax in float32.
        logits_CV = (self.inner.lm_head(hidden_CD).float() + self.ban_V) / self.temperature
        log_softmax_CV = logits_CV.log_softmax(dim=-1)
        with torch.no_grad():
            entropy_C = -(log_softmax_CV.exp() * log_softmax_CV).sum(dim=-1)
        return log_softmax_CV.gather(1, targets_C[:, None])[:, 0], entropy_C
