"""The step log: one JSON line a training step, for all phases of a run, in `steps.jsonl`."""

from __future__ import annotations

import json
import math
import os
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict

from visionr1.errors import BadInput
from visionr1.metrics.table import RECORD_KEYS, TABLE
from visionr1.rundir.epoch import check_epoch
from visionr1.rundir.layout import STEPS
from visionr1.rundir.reading import Step, Time, number_or_null, read_file
from visionr1.storage.store import NotFound, StorageError, Store, open_regular, os_errors

_TRIES: Final = 5
_MOST_BYTES: Final = 16 << 20
"""Some 20,000 steps; the operator, which has little memory, reads the log of every run."""
_BY_LABEL: Final = frozenset(item.key for item in TABLE if item.label is not None)
"""Keys with a number for each value of a label."""
_MEASURED: Final = RECORD_KEYS - {"phase", "stage", "step", "time"}


class StepLog:
    """Appends records of one phase; a record is on the disk, or in the bucket, when `append` returns.

    Opening drops what an earlier attempt logged of this phase after global step `after_step` (those steps are about to run
    again) and a last line that a crash cut short. One process writes at a time.

    Attributes:
        resumes_from: when the newest step of this phase that is kept ended, in Unix time. None without one.
    """

    def __init__(self, store: Store, phase: str, after_step: int) -> None:
        self._store = store
        self._phase = phase
        for _ in range(_TRIES):  # an older attempt may write its last record just now
            before = _read(store)
            records = _records(before or b"", store)
            keep = [record for record in records if record["phase"] != phase or record["step"] <= after_step]
            self._data = as_lines(keep)
            # In a directory also if nothing changes: what an older attempt has opened is then another file.
            if store.replace_bytes(STEPS, self._data, before):
                break
        else:
            raise StorageError(f"{store.url}/{STEPS}: another process keeps writing it; end that one, and start again")
        self.resumes_from: float | None = next((record["time"] for record in reversed(keep) if record["phase"] == phase), None)

    def append(self, record: dict[str, Any]) -> None:
        """Adds one step. NaN and infinities become null, which JSON can say.

        Raises:
            ValueError: The record is of another phase, or has a key that `visionr1.metrics.table` does not know.
        """
        if record["phase"] != self._phase:
            raise ValueError(f"a record of {record['phase']} does not belong into the log of {self._phase}")
        if unknown := record.keys() - RECORD_KEYS:
            raise ValueError(f"visionr1/metrics/table.py does not know the record keys {sorted(unknown)}; add them there")
        line = _line(record)
        path = self._store.local_path(STEPS)
        if path is None:  # objects cannot grow
            before, self._data = self._data, self._data + line
            if not self._store.replace_bytes(STEPS, self._data, before):  # an older attempt wrote its last record meanwhile
                self._store.write_bytes(STEPS, self._data)
            return
        with os_errors(path), open_regular(path, flags=os.O_WRONLY | os.O_APPEND | os.O_CREAT) as file:
            check_epoch(self._store)  # once the file is open: a newer attempt replaces it
            file.write(line)
            file.flush()
            os.fsync(file.fileno())


def read_steps(store: Store) -> list[dict[str, Any]]:
    """All records in the order in which they were logged; [] before the first.

    Every record has `phase` (text), `step` (a number of steps) and `time` (Unix seconds, or None). `stage`, where it is there, is
    a stage's number or None; every key of `visionr1.metrics.table` that is there has a finite number or None, or a mapping to
    such values where the table gives it a label.

    Raises:
        BadInput: A line other than the last one is not a record, or the log is too large to be one.
    """
    return _records(_read(store) or b"", store)


def as_lines(records: list[dict[str, Any]]) -> bytes:
    """Records as the log has them."""
    return b"".join(map(_line, records))


def _read(store: Store) -> bytes | None:
    try:
        return read_file(store, STEPS, _MOST_BYTES)
    except NotFound:
        return None


def _records(data: bytes, store: Store) -> list[dict[str, Any]]:
    lines = data.split(b"\n")
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(_record(json.loads(line)))
        except (ValueError, RecursionError) as error:
            if number == len(lines):  # empty, or cut short by a crash, or still being written
                break
            raise BadInput(f"{store.url}/{STEPS}: line {number} is not a step record; correct or delete that line") from error
    return records


class _Place(BaseModel):
    """Where and when a record was made."""

    model_config = ConfigDict(strict=True)

    phase: str
    step: Step
    stage: Step | None = None
    time: Annotated[Time | None, BeforeValidator(number_or_null)] = None


def _record(line: Any) -> dict[str, Any]:
    """The record of a line. Raises ValueError if it is none."""
    place = _Place.model_validate(line)
    return {key: _value(key, value) for key, value in line.items()} | {"time": place.time}


def _value(key: str, value: Any) -> Any:
    if key not in _MEASURED:
        return value
    if key not in _BY_LABEL:
        return _finite_or_none(value)
    if not isinstance(value, dict):
        raise ValueError(f"{key} has no labels")
    return {label: _finite_or_none(item) for label, item in value.items()}


def _finite_or_none(value: Any) -> Any:
    return None if number_or_null(value) is None else value


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(_finite(record), ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
