"""A record of every attempt at a phase that a process of this machine has made."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass

from visionr1.errors import BadInput
from visionr1.rundir.layout import attempt_prefix, attempts_prefix
from visionr1.storage import Store


@dataclass(frozen=True)
class AttemptRecord:
    """attempt.json: one process of a phase.

    Times are unix seconds, `peak_bytes` is the largest resident memory of the process and all below it
    (shared pages counted once), steps are the newest committed global steps before and after. `ended`
    is None while it runs; `exit_code` stays None where nobody saw it end.
    """

    command: list[str]
    started: float
    from_step: int | None
    ended: float | None = None
    exit_code: int | None = None
    to_step: int | None = None
    peak_bytes: int | None = None


def attempts(store: Store, phase: str) -> dict[int, AttemptRecord]:
    """All attempts of a phase by number, from 0."""
    pattern = re.compile(re.escape(attempts_prefix(phase)) + r"/attempt-(\d+)/attempt\.json")
    found = {int(match[1]): key for key in store.list(attempts_prefix(phase)) if (match := pattern.fullmatch(key))}
    return {number: _read_attempt(store, found[number]) for number in sorted(found)}


def write_attempt(store: Store, phase: str, number: int, record: AttemptRecord) -> None:
    """Write attempt.json (replacing it in one move)."""
    store.write_bytes(_attempt_key(phase, number), json.dumps(asdict(record), indent=1).encode())


def _attempt_key(phase: str, number: int) -> str:
    return f"{attempt_prefix(phase, number)}/attempt.json"


def _read_attempt(store: Store, key: str) -> AttemptRecord:
    try:
        return AttemptRecord(**json.loads(store.read_bytes(key)))
    except (ValueError, TypeError):
        raise BadInput(f"{store.url}/{key}: not the record of an attempt; delete it to go on") from None
