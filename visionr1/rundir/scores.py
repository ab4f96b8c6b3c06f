"""eval/: the held-out score of each phase's last checkpoint, and the responses that it counts.

Scores that were made with other values of the recipe are never in one folder: the first ones are directly in eval/, those of
other values in eval/<id>/. Each folder's settings.json has its values.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from visionr1.errors import BadInput
from visionr1.recipe.phases import BASE_MODEL
from visionr1.rundir.layout import EVAL, eval_folder, eval_key, eval_samples_key, eval_settings_key
from visionr1.rundir.reading import Count, Finite, Number, Step, read_file, read_json
from visionr1.storage import NotFound, Store

_MOST_BYTES: Final = 1 << 30
"""Of a samples file: some 20,000 responses of the longest kind."""


class PhaseScore(BaseModel):
    """The score of the checkpoint of a phase at global step `step`, as far as others read it.

    Accuracy, standard error and truncated ratio are in [0, 1], lengths in tokens; None for what is no finite number.
    `fingerprint` is of the problems; None in a score of an older version. Scores of other problems are not comparable.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    step: Step
    accuracy: Number = None
    standard_error: Number = None
    completion_tokens_mean: Number = None
    truncated_ratio: Number = None
    fingerprint: str | None = None


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
_SETTINGS: Final = TypeAdapter(dict[str, Any])


class Scores:
    """A run's scores that were made with `settings` (`recipe.reads.evaluation_settings`).

    Raises BadInput if eval/settings.json is damaged.
    """

    def __init__(self, store: Store, settings: str) -> None:
        self._store, self._settings = store, settings
        first = _first_settings(store)
        self.folder = EVAL if first is None or _same(first, json.loads(settings)) else eval_folder(_short(settings))

    def score(self, phase: str | None) -> PhaseScore | None:
        """The score of a phase (None: of the base model); None while there is none.

        Raises:
            BadInput: the file is damaged.
        """
        key = eval_key(phase or BASE_MODEL, self.folder)
        try:
            return read_json(self._store, key, _SCORE, "not a score file; delete it to have it made again")
        except NotFound:
            return None

    def samples(self, phase: str) -> Iterator[Sample]:
        """The responses that the score of a phase counts, in the order of the problems; none while there is no score.

        Raises:
            BadInput: a line is no scored response.
        """
        key = eval_samples_key(phase, self.folder)
        try:
            data = read_file(self._store, key, _MOST_BYTES)
        except NotFound:
            return
        for number, line in enumerate(data.splitlines(), start=1):
            try:
                yield Sample.model_validate_json(line)
            except ValidationError:
                remedy = f"delete it and {eval_key(phase, self.folder)} to have both made again"
                raise BadInput(f"{self._store.url}/{key}: line {number} is not a scored response; {remedy}") from None

    def write(self, phase: str, step: int, figures: Mapping[str, Any], samples: Sequence[Sample]) -> None:
        """Writes the settings, the responses and then the score, so that a score is there only with them.

        Args:
            step: global step of the checkpoint that was scored.
            figures: the other values of the score file, JSON-ready.
        """
        self._store.write_bytes(eval_settings_key(self.folder), self._settings.encode())
        self._store.write_bytes(eval_samples_key(phase, self.folder), sample_lines(samples))
        self._store.write_bytes(eval_key(phase, self.folder), score_text({"phase": phase, "step": step, **figures}))

    def others(self) -> list[str]:
        """Folders with scores of other settings."""
        folders = {key.rpartition("/")[0] for key in self._store.list(EVAL) if key.endswith(".samples.jsonl")}
        return sorted(folders - {self.folder})


def keep_apart(store: Store, settings: str) -> None:
    """Before a run's settings change: the scores that are directly in eval/ stay those of `settings`."""
    if _first_settings(store) is None and store.list(EVAL):
        store.write_bytes(eval_settings_key(), settings.encode())


def delete_scores(store: Store, phase: str) -> None:
    """Deletes the scores of a phase, those of all settings."""
    for folder in {key.rpartition("/")[0] for key in store.list(EVAL)}:
        store.delete(eval_key(phase, folder))
        store.delete(eval_samples_key(phase, folder))


def _first_settings(store: Store) -> dict[str, Any] | None:
    """The values of the scores directly in eval/; None if none are noted: then they are those of the recipe that is there."""
    try:
        return read_json(store, eval_settings_key(), _SETTINGS, "not the values of an evaluation; delete the folder it is in")
    except NotFound:
        return None


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether no value differs; a value that only one of the two has is of another version of this program.

    A group that is null in one and has values in the other differs.
    """
    groups = [path for path in one.keys() ^ other.keys() if any(p.startswith(f"{path}.") for p in one.keys() | other.keys())]
    return not groups and all(one[path] == other[path] for path in one.keys() & other.keys())


def _short(settings: str) -> str:
    return hashlib.sha256(settings.encode()).hexdigest()[:12]


def sample_lines(samples: Sequence[Sample]) -> bytes:
    """A samples file."""
    return "".join(json.dumps(sample.model_dump(), ensure_ascii=False) + "\n" for sample in samples).encode()


def score_text(values: Mapping[str, Any]) -> bytes:
    """A score file."""
    return (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode()
