"""Packing: many sequences in one row, without padding and without an attention mask.

In a *shared* row a prompt is there once, followed by all its completions; each of them continues the prompt. In a *plain* row
each completion has its own copy of the prompt. Both give the same log-probs and gradients; a shared row is shorter.

Position ids have the shape [4, 1, T]: row 0 counts the places of each sequence from 0 (transformers' own attention functions
read from it where a plain row's sequences begin), rows 1 to 3 are the multimodal rotary positions.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch

from visionr1.model.attention import Span, Spans
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
        spans: which places attend to which.
        predict_N: int64 places in T before a completion token (N of them).
        targets_N: int64 those next tokens.
        sequence_N: int64 index (in this row) of the sequence each target belongs to.
        images: patches of each distinct prompt of the row once; None if no prompt has any.
        image_order: for each image in reading order, its index among the images of `images`.
    """

    input_ids_1T: torch.Tensor
    position_ids_41T: torch.Tensor
    spans: Spans
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
            self.spans.to(device),
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


def micro_batches(prompts: Seq[PromptTensors], sequences: Seq[TrainSequence], budget: int, *, shared: bool) -> list[list[int]]:
    """Indices of the sequences of each row, at most `budget` tokens per row. A longer sequence has a row alone.

    The completions of one prompt stay together as far as the budget allows. Rows are filled first-fit decreasing: the largest
    part first, each into the first row with room for it.

    Args:
        sequences: completions of one prompt follow one another.
        shared: count a prompt once per row.
    """
    parts: list[tuple[int, list[int]]] = []
    for _, group in groupby(range(len(sequences)), key=lambda index: sequences[index].prompt):
        parts.extend(_parts(prompts, sequences, list(group), budget, shared))
    rows: list[tuple[int, list[int]]] = []
    for tokens, indices in sorted(parts, key=lambda part: -part[0]):
        place = next((place for place, (used, _) in enumerate(rows) if used + tokens <= budget), None)
        if place is None:
            rows.append((tokens, indices))
        else:
            rows[place] = (rows[place][0] + tokens, rows[place][1] + indices)
    return [indices for _, indices in rows]


def _parts(
    prompts: Seq[PromptTensors], sequences: Seq[TrainSequence], group: list[int], budget: int, shared: bool
) -> list[tuple[int, list[int]]]:
    """One prompt's sequences in parts of at most `budget` tokens each, with the tokens of each part."""
    parts: list[tuple[int, list[int]]] = []
    for index in group:
        alone = sequences[index].length(prompts)
        more = len(sequences[index].completion_ids) if shared else alone
        if parts and parts[-1][0] + more <= budget:
            parts[-1] = (parts[-1][0] + more, [*parts[-1][1], index])
        else:
            parts.append((alone, [index]))
    return parts


def pack(prompts: Seq[PromptTensors], sequences: Seq[TrainSequence], *, shared: bool) -> PackedRow:
    """Packs `sequences` into one row, in order.

    Args:
        shared: let completions of one prompt that follow one another share it. `model.attention` must then be `shared`.
    """
    row = _Row()
    groups = [(key, list(group)) for key, group in groupby(sequences, key=lambda sequence: sequence.prompt)]
    for index, group in groups:
        for together in [group] if shared else [[sequence] for sequence in group]:
            row.add(index, prompts[index], [sequence.completion_ids for sequence in together])
    return row.packed()


class _Row:
    """A row that is being packed."""

    def __init__(self) -> None:
        self._ids: list[int] = []
        self._positions_4L: list[torch.Tensor] = []
        self._spans: list[Span] = []
        self._predict: list[int] = []
        self._targets: list[int] = []
        self._owner: list[int] = []
        self._sequences = 0
        self._images: dict[int, tuple[int, ImageInputs]] = {}
        self._image_order: list[int] = []

    def add(self, index: int, prompt: PromptTensors, completions: Seq[list[int]]) -> None:
        """A prompt and completions that share it; the first one follows it directly, so that both are one span."""
        start, n_prompt = len(self._ids), len(prompt.token_ids)
        self._ids += prompt.token_ids
        self._positions_4L.append(torch.cat([torch.arange(n_prompt)[None], prompt.positions_3P]))
        for number, completion_ids in enumerate(completions):
            first, length = len(self._ids), len(completion_ids)
            if number == 0:
                self._spans.append(Span(start, n_prompt + length))
            else:
                self._spans.append(Span(first, length, prefix=(start, n_prompt)))
            # The prompt's last place predicts the first token of each of its completions.
            self._predict += [start + n_prompt - 1, *range(first, first + length - 1)][:length]
            self._targets += completion_ids
            self._owner += [self._sequences] * length
            self._ids += completion_ids
            self._positions_4L.append(_positions_after(prompt, length))
            self._sequences += 1
        if prompt.images is not None:
            count = len(prompt.images.grid_thw_I3)
            first_image, _ = self._images.setdefault(index, (self._n_images(), prompt.images))
            self._image_order += range(first_image, first_image + count)

    def _n_images(self) -> int:
        return sum(len(images.grid_thw_I3) for _, images in self._images.values())

    def packed(self) -> PackedRow:
        images = None
        if self._images:
            distinct = [images for _, images in self._images.values()]
            pixels_PC = torch.cat([one.pixel_values_PC for one in distinct])
            images = ImageInputs(pixels_PC, torch.cat([one.grid_thw_I3 for one in distinct]))
        return PackedRow(
            torch.tensor([self._ids]),
            torch.cat(self._positions_4L, dim=1)[:, None],
            Spans(self._spans, torch.device("cpu")),
            torch.tensor(self._predict, dtype=torch.int64),
            torch.tensor(self._targets, dtype=torch.int64),
            torch.tensor(self._owner, dtype=torch.int64),
            images,
            self._image_order,
        )


def _positions_after(prompt: PromptTensors, n_completion: int) -> torch.Tensor:
    """Positions [4, L] of a completion: places after the prompt's, rotary positions after its largest one."""
    places_L = torch.arange(n_completion)
    rotary_3L = (places_L + int(prompt.positions_3P.max()) + 1).expand(3, -1)
    return torch.cat([(places_L + len(prompt.token_ids))[None], rotary_3L])
