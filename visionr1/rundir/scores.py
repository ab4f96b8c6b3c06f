"""eval/: the held-out score of each phase's last checkpoint, and the responses that it counts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from visionr1.errors import BadInput
from visionr1.recipe.phases import BASE_MODEL
from visionr1.rundir.layout import eval_key, eval_samples_key
from visionr1.rundir.reading import Count, Finite, Number, Step, read_file, read_json
from visionr1.storage import NotFound, Store

_MOST_BYTES: Final = 1 << 30
"""Of a samples file: some 20,000 responses of the longest kind."""


class PhaseScore(BaseModel):
    """The score of the checkpoint of a phase at global step `step`, as far as others read it.

    Accuracy, standard error and truncated ratio are in [0, 1], lengths in tokens; None for what is no finite number.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    step: Step
    accuracy: Number = None
    standard_error: Number = None
    completion_tokens_mean: Number = None
    truncated_ratio: Number = None


class Sample(BaseModel):
    """One scored response: a line of a samples file.

    Attributes:
        sample: which of the problem's responses, from 0.
        images: small pictures as PNG in base64; none for most lines.
        tokens: length of the response.
        overall, format, accuracy: its reward and the parts of it.
        answer: as it was read from the response; None if there was none.
        reason: why it got that reward, in words.
        truth: the true answer.
    """

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    id: str
    sample: Count
    problem: str
    images: tuple[str, ...]
    response: str
    tokens: Count
    finish_reason: str
    overall: Finite
    format: Finite
    accuracy: Finite
    answer: str | None
    reason: str
    truth: str


_SCORE: Final = TypeAdapter(PhaseScore)


def read_score(store: Store, phase: str | None) -> PhaseScore | None:
    """The score of a phase (None: of the base model); None while there is none.

    Raises:
        BadInput: the file is damaged.
    """
    try:
        return read_json(store, eval_key(phase or BASE_MODEL), _SCORE, "not a score file; delete it to have it made again")
    except NotFound:
        return None


def read_samples(store: Store, phase: str) -> Iterator[Sample]:
    """The responses that the score of a phase counts, in the order of the problems; none while there is no score.

    Raises:
        BadInput: a line is no scored response.
    """
    key = eval_samples_key(phase)
    try:
        data = read_file(store, key, _MOST_BYTES)
    except NotFound:
        return
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            yield Sample.model_validate_json(line)
        except ValidationError:
            remedy = f"delete it and {eval_key(phase)} to have both made again"
            raise BadInput(f"{store.url}/{key}: line {number} is not a scored response; {remedy}") from None


def write_score(store: Store, phase: str, step: int, figures: Mapping[str, Any], samples: Sequence[Sample]) -> None:
    """Writes the responses and then the score, so that a score is there only with them.

    Args:
        step: global step of the checkpoint that was scored.
        figures: the other values of the score file, JSON-ready.
    """
    store.write_bytes(eval_samples_key(phase), sample_lines(samples))
    store.write_bytes(eval_key(phase), score_text({"phase": phase, "step": step, **figures}))


def sample_lines(samples: Sequence[Sample]) -> bytes:
    """A samples file."""
    return "".join(json.dumps(sample.model_dump(), ensure_ascii=False) + "\n" for sample in samples).encode()


def score_text(values: Mapping[str, Any]) -> bytes:
    """A score file."""
    return (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode()
