"""The report about the cold-start data, and the manifest that commits it."""

from __future__ import annotations

import json
from typing import Final

from pydantic import BaseModel, ConfigDict, TypeAdapter

from visionr1.rundir.layout import COLDSTART_MANIFEST, COLDSTART_REPORT
from visionr1.rundir.reading import Count, Finite, read_json
from visionr1.storage import NotFound, Store


class Example(BaseModel):
    """A problem that gave no sample, and what gave it away."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    id: str
    excerpt: str


class TeacherUse(BaseModel):
    """What the last attempt has used of a teacher, in tokens as its endpoints count them, and what that costs."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    prompt_tokens: Count
    reply_tokens: Count
    cost: Finite


class ColdStartReport(BaseModel):
    """What became of the problems.

    `rejected` counts by rule, `examples` has one for each rule. `reflection_words` are occurrences in the kept responses,
    `mean_words` their mean length. `asked` requests were sent, `reused` had been answered before.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    problems: Count
    kept: Count
    rejected: dict[str, Count]
    examples: dict[str, Example]
    reflection_words: dict[str, Count]
    mean_words: Finite
    asked: Count
    reused: Count
    teachers: dict[str, TeacherUse] = {}


class _Manifest(BaseModel):
    model_config = ConfigDict(strict=True)

    samples: Count


_REPORT: Final = TypeAdapter(ColdStartReport)
_MANIFEST: Final = TypeAdapter(_Manifest)


def write_report(store: Store, report: ColdStartReport) -> None:
    """Writes report.json."""
    store.write_bytes(COLDSTART_REPORT, json.dumps(report.model_dump(), indent=1).encode())


def read_report(store: Store) -> ColdStartReport | None:
    """The report; None while there is none. It is also there of data that was not committed.

    Raises:
        BadInput: the file is damaged.
    """
    fault = f"not the report of a cold start; delete it and {COLDSTART_MANIFEST} to have the data made again"
    try:
        return read_json(store, COLDSTART_REPORT, _REPORT, fault)
    except NotFound:
        return None


def commit(store: Store, samples: int) -> None:
    """Commits the data: after this, SFT may read it."""
    store.write_bytes(COLDSTART_MANIFEST, json.dumps({"samples": samples}).encode())


def is_committed(store: Store) -> bool:
    """Whether the data is there."""
    return store.exists(COLDSTART_MANIFEST)


def committed_samples(store: Store) -> int | None:
    """How many samples were committed; None while there are none.

    Raises:
        BadInput: the manifest is damaged.
    """
    fault = "not the manifest of cold-start data; delete it to have the data made again"
    try:
        return read_json(store, COLDSTART_MANIFEST, _MANIFEST, fault).samples
    except NotFound:
        return None
