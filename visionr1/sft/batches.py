"""From samples to packed rows, ahead of the trainer."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from visionr1.data.badrow import BadRow
from visionr1.data.check import check_sample_text, too_long
from visionr1.data.images import BadImage
from visionr1.data.rows import Row, Sample
from visionr1.errors import BadInput
from visionr1.model.chat import PromptBuilder
from visionr1.model.pack import PackedRow, PromptTensors, TrainSequence, micro_batches, pack, prompt_tensors

Draw = TypeVar("Draw")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Batch:
    """This rank's part of one optimiser step.

    Attributes:
        rows: packed micro-batches; never empty.
        targets: response tokens in all of them.
        left_out: ids of samples that are too long or damaged, with the reason.
    """

    rows: list[PackedRow]
    targets: int
    left_out: list[str]


def make_batch(
    samples: Sequence[Sample], indices: list[int], builder: PromptBuilder, rope_model: Any, cutoff: int, budget: int
) -> Batch:
    """Packs the samples at `indices`; where none of them can be used, the first usable one of the data, with no targets.

    Raises:
        BadInput: no sample of the data can be used.
    """
    usable: list[tuple[PromptTensors, list[int]]] = []
    left_out: list[str] = []
    for index in indices:
        found = _tensors(samples, index, builder, rope_model, cutoff)
        if isinstance(found, str):
            left_out.append(found)
        else:
            usable.append(found)
    targets = sum(len(response_ids) for _, response_ids in usable)
    if not usable:
        # This rank must run its passes all the same, or the others wait for it for ever.
        usable.append(_first_usable(samples, builder, rope_model, cutoff))
    prompts = [prompt for prompt, _ in usable]
    sequences = [TrainSequence(place, response_ids) for place, (_, response_ids) in enumerate(usable)]
    chosen = micro_batches(prompts, sequences, budget, shared=False)
    rows = [pack(prompts, [sequences[place] for place in row], shared=False) for row in chosen]
    return Batch(rows, targets, left_out)


def _first_usable(
    samples: Sequence[Sample], builder: PromptBuilder, rope_model: Any, cutoff: int
) -> tuple[PromptTensors, list[int]]:
    note = "there are none"
    for index in range(len(samples)):
        found = _tensors(samples, index, builder, rope_model, cutoff)
        if not isinstance(found, str):
            return found
        note = found
    raise BadInput(f"none of the {len(samples)} samples for SFT can be used; the last one: {note}")


def _tensors(
    samples: Sequence[Sample], index: int, builder: PromptBuilder, rope_model: Any, cutoff: int
) -> tuple[PromptTensors, list[int]] | str:
    """A sample's prompt and response, or why it is left out."""
    try:
        sample = samples[index]
        check_sample_text(sample)
        prompt = builder.build(Row(sample.id, sample.problem, sample.images, answer=""))
        response_ids = builder.response_ids(sample.response)
        expanded = builder.expand(prompt)
        if len(expanded) + len(response_ids) > cutoff:
            raise too_long(sample, len(expanded) + len(response_ids), cutoff)
    except (BadRow, BadImage) as error:
        return f"sample {index}: {error}"
    images = builder.image_inputs(prompt.images) if prompt.images else None
    return prompt_tensors(rope_model, expanded, images, builder.image_token_id), response_ids


def ahead(make: Callable[[Draw], Made], draws: Iterator[Draw]) -> Generator[Made]:
    """Makes the next batch in a thread while the trainer works on this one."""
    with ThreadPoolExecutor(1) as thread:
        waiting = None
        for draw in draws:
            coming = thread.submit(make, draw)
            if waiting is not None:
                yield waiting.result()
            waiting = coming
        if waiting is not None:
            yield waiting.result()
