"""The policy: log-probs of completions from packed rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutputWithPooling

from visionr1.model.head import Head, TokenLoss, TokenStats
from visionr1.model.pack import PackedRow


class Policy(nn.Module):
    """Qwen2.5-VL as a module from a packed row to TokenStats.

    One forward does everything that touches parameters, so that ZeRO-3's hooks gather them.
    """

    def __init__(self, inner: Qwen2_5_VLForConditionalGeneration, banned_token_ids: list[int], temperature: float):
        super().__init__()
        self.inner = inner
        vocabulary = inner.config.get_text_config().vocab_size
        inner.set_output_embeddings(Head(inner.lm_head.weight, vocabulary, banned_token_ids, temperature))

    def freeze_vision_tower(self) -> None:
        """Takes the vision tower out of training: its weights need no gradient."""
        self.inner.model.visual.requires_grad_(False)

    def forward(self, row: PackedRow, token_loss: TokenLoss | None = None) -> TokenStats:
        """Log-probs of the row's targets; with `token_loss` also the entropies and the loss, which has a gradient."""
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
        stats: TokenStats = self.inner.lm_head(hidden_1TD[0, row.predict_N] + vision_touch, row.targets_N, token_loss)
        return stats

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
