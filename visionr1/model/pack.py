"""Packing: many sequences in one row, without padding and without an attention mask.

transformers reads block-diagonal attention from position ids of shape [4, 1, T]: row 0 restarts at
0 for each sequence, rows 1 to 3 are the multimodal rotary positions.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Any

import torch

from visionr1.model.chat import ImageInputs


@dataclass(frozen=True)
class PromptTensors:
    """An expanded prompt, shared by all its completions.

    Attributes:
        token_ids: expanded prompt, one image token for each vision feature.
        positions_3P: int64 rotary positions (time, height, width) of the prompt's tokens.
        images: patches of its pictures; None for a text-only prompt.
    """

    token_ids: list[int]
    positions_3P: torch.Tensor
    images: ImageInputs | None


@dataclass(frozen=True)
class TrainSequence:
    """One completion with its prompt; `prompt` indexes a list of PromptTensors."""

    prompt: int
    completion_ids: list[int]

    def length(self, prompts: Seq[PromptTensors]) -> int:
        """Tokens of prompt and completion."""
        return len(prompts[self.prompt].token_ids) + len(self.completion_ids)


@dataclass(frozen=True)
class PackedRow:
    """One micro-batch of the trainer.

    Attributes:
        input_ids_1T: int64 token ids of all sequences after one another.
        position_ids_41T: int64, see the module's docstring.
        predict_N: int64 places in T whose next token is a completion token (N of them).
        targets_N: int64 those next tokens.
        sequence_N: int64 index (in this row) of the sequence each target belongs to.
        images: patches of each distinct prompt of the row once; None if no prompt has any.
        image_order: for each image in reading order, its index among the images of `images`.
    """

    input_ids_1T: torch.Tensor
    position_ids_41T: torch.Tensor
    predict_N: torch.Tensor
    targets_N: torch.Tensor
    sequence_N: torch.Tensor
    images: ImageInputs | None
    image_order: list[int]

    def to(self, device: torch.device) -> PackedRow:
        """The same row with its tensors on `device`."""
        return PackedRow(
            self.input_ids_1T.to(device),
            self.position_ids_41T.to(device),
            self.predict_N.to(device),
            self.targets_N.to(device),
            self.sequence_N.to(device),
            self.images and ImageInputs(self.images.pixel_values_PC.to(device), self.images.grid_thw_I3.to(device)),
            self.image_order,
        )


def prompt_tensors(model: Any, token_ids: list[int], images: ImageInputs | None, image_token_id: int) -> PromptTensors:
    """Rotary positions of an expanded prompt, by the model's own rule.

    Args:
        model: the Qwen2_5_VLModel (the inner model, without the head).
    """
    ids_1P = torch.tensor([token_ids])
    if images is None:
        positions_3P = torch.arange(len(token_ids)).expand(3, -1)
    else:
        # Without the token types the model falls back to text positions, and says nothing.
        types_1P = (ids_1P == image_token_id).to(torch.int32)
        positions_31P, _ = model.get_rope_index(ids_1P, types_1P, image_grid_thw=images.grid_thw_I3.cpu())
        positions_3P = positions_31P[:, 0]
    return PromptTensors(token_ids, positions_3P, images)


def micro_batches(lengths: Seq[int], budget: int) -> list[list[int]]:
    """Consecutive indices whose lengths sum to at most `budget`; a longer one stands alone.

    Order is kept, so completions of one prompt stay together and share its image features.
    """
    rows: list[list[int]] = []
    used = 0
    for index, length in enumerate(lengths):
        if not rows or used + length > budget:
            rows.append([])
            used = 0
        rows[-1].append(index)
        used += length
    return rows


def pack(prompts: Seq[PromptTensors], sequences: Seq[TrainSequence]) -> PackedRow:
    """Packs `sequences` into one row, in order."""
    ids: list[int] = []
    positions_4L: list[torch.Tensor] = []
    predict: list[int] = []
    targets: list[int] = []
    owner: list[int] = []
    first_image: dict[int, int] = {}
    distinct: list[ImageInputs] = []
    image_order: list[int] = []
    n_images = 0
    for number, sequence in enumerate(sequences):
        prompt = prompts[sequence.prompt]
        n_prompt, n_completion = len(prompt.token_ids), len(sequence.completion_ids)
        first = len(ids) + n_prompt - 1
        ids += prompt.token_ids + sequence.completion_ids
        predict += range(first, first + n_completion)
        targets += sequence.completion_ids
        owner += [number] * n_completion
        positions_4L.append(_positions(prompt, n_completion))
        if prompt.images is not None:
            count = len(prompt.images.grid_thw_I3)
            if sequence.prompt not in first_image:
                first_image[sequence.prompt] = n_images
                distinct.append(prompt.images)
                n_images += count
            image_order += range(first_image[sequence.prompt], first_image[sequence.prompt] + count)
    images = None
    if distinct:
        pixels_PC = torch.cat([image.pixel_values_PC for image in distinct])
        images = ImageInputs(pixels_PC, torch.cat([image.grid_thw_I3 for image in distinct]))
    return PackedRow(
        torch.tensor([ids]),
        torch.cat(positions_4L, dim=1)[:, None],
        torch.tensor(predict, dtype=torch.int64),
        torch.tensor(targets, dtype=torch.int64),
        torch.tensor(owner, dtype=torch.int64),
        images,
        image_order,
    )


def _positions(prompt: PromptTensors, n_completion: int) -> torch.Tensor:
    """Positions [4, L] of a prompt and its completion, which goes on after the largest prompt position."""
    after_C = torch.arange(n_completion) + int(prompt.positions_3P.max()) + 1
    rotary_3L = torch.cat([prompt.positions_3P, after_C.expand(3, -1)], dim=1)
    return torch.cat([torch.arange(rotary_3L.shape[1])[None], rotary_3L])
