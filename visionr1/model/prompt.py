"""What a model is asked; free of torch, so that whoever samples or scores may name it."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True)
class Prompt:
    """Token ids with one image placeholder token for each of `images` (RGB, already resized)."""

    token_ids: list[int]
    images: list[Image.Image]
