"""A record of every attempt at a phase that a process of this machine has made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, ClassVar, Final, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from visionr1.errors import EXIT_DONE, EXIT_FENCED, EXIT_STOPPED
from visionr1.rundir.layout import attempt_key, attempt_number, attempts_prefix
from visionr1.rundir.reading import Count, Step, Time, read_json
from visionr1.storage import Store

ATTEMPT: Final = "VISIONR1_ATTEMPT"
"""Environment variable with the folder of the attempt that a process belongs to; `visionr1 run` sets it."""

State = Literal["done", "running", "stopped", "failed", "begun", "waiting"]


@dataclass(frozen=True)
class AttemptRecord:
    """attempt.json: one process of a phase.

    Times are unix seconds, `peak_bytes` is the largest resident memory of the process and all below it
    (shared pages counted once), steps are the newest committed global steps before and after. `ended`
    is None while it runs; `exit_code` stays None where nobody saw it end.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    command: list[str]
    started: Time
    from_step: Step | None
    ended: Time | None = None
    exit_code: Annotated[int, Field(ge=-1000, le=1000)] | None = None
    to_step: Step | None = None
    peak_bytes: Count | None = None


_RECORD: Final = TypeAdapter(AttemptRecord)


def attempts(store: Store, phase: str) -> dict[int, AttemptRecord]:
    """All attempts of a phase by number, from 0, in order.

    Raises:
        BadInput: a record is damaged.
    """
    numbers = sorted(number for key in store.list(attempts_prefix(phase)) if (number := attempt_number(key)) is not None)
    fault = "not the record of an attempt; delete it to continue"
    return {number: read_json(store, attempt_key(phase, number), _RECORD, fault) for number in numbers}


def write_attempt(store: Store, phase: str, number: int, record: AttemptRecord) -> None:
    """Write attempt.json (replacing it in one move)."""
    store.write_bytes(attempt_key(phase, number), json.dumps(asdict(record), indent=1).encode())


def phase_state(complete: bool, tried: Mapping[int, AttemptRecord], stepped: bool) -> State:
    """The state of a phase. `begun` means that it has steps but no recorded attempt, as on a cluster.

    A phase is done when its result is there, never by an exit code: one that ended with 0 and has no result (any more) waits
    for its next attempt, and so does one whose run another attempt has taken over.

    Args:
        complete: what `visionr1.rundir.committed` says.
        tried: what `attempts` gives.
        stepped: whether steps of it are on record.
    """
    if complete:
        return "done"
    if not tried:
        return "begun" if stepped else "waiting"
    last = tried[max(tried)]
    if last.ended is None:
        return "running"
    if last.exit_code == EXIT_STOPPED:
        return "stopped"
    return "waiting" if last.exit_code in (EXIT_DONE, EXIT_FENCED) else "failed"
