"""Every reply is kept as soon as it is there, so that an interrupted run never asks twice."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Iterable
from dataclasses import asdict
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from visionr1.data.coldstart.reply import Reply
from visionr1.errors import BadInput
from visionr1.recipe.coldstart import Teacher
from visionr1.recipe.schema import Model
from visionr1.rundir.layout import COLDSTART_WORK, coldstart_work_key
from visionr1.rundir.reading import read_file
from visionr1.storage import Store

FLUSH_SECONDS: Final = 10.0
_MOST_BYTES: Final = 256 << 20
"""Of a part, which holds the replies of FLUSH_SECONDS."""


class _Entry(BaseModel):
    """A line of a part; the row's id and the step in it are for people."""

    model_config = ConfigDict(strict=True)

    request: str
    reply: Reply


class WorkLog:
    """Replies by request; written in parts `coldstart/work/<random>.jsonl`, since S3 cannot append.

    Raises BadInput for a part that cannot be read.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._replies: dict[str, Reply] = {}
        self._unwritten: list[str] = []
        self._written_at = time.monotonic()
        for key in store.list(COLDSTART_WORK):
            self._read(key)

    def _read(self, key: str) -> None:
        for number, line in enumerate(read_file(self._store, key, _MOST_BYTES).splitlines(), start=1):
            try:
                entry = _Entry.model_validate_json(line)
            except ValidationError:
                remedy = "remove it, and its requests are sent again"
                raise BadInput(f"{self._store.url}/{key} is damaged (line {number} is not a reply); {remedy}") from None
            self._replies[entry.request] = entry.reply

    def get(self, request: str) -> Reply | None:
        """The reply that this request has had; None if it has not been answered yet."""
        return self._replies.get(request)

    def add(self, request: str, row_id: str, step: str, reply: Reply) -> None:
        """`row_id` and `step` are for people who read the files."""
        self._replies[request] = reply
        entry = {"request": request, "row": row_id, "step": step, "reply": asdict(reply)}
        self._unwritten.append(json.dumps(entry))

    def flush(self, at_once: bool = False) -> None:
        """Writes what is new if the last time was FLUSH_SECONDS ago, or at once."""
        if self._unwritten and (at_once or time.monotonic() - self._written_at >= FLUSH_SECONDS):
            self._store.write_bytes(coldstart_work_key(uuid.uuid4().hex), "\n".join(self._unwritten).encode() + b"\n")
            self._unwritten = []
            self._written_at = time.monotonic()


def request_key(teacher: Teacher, model: Model, prompt: str, images: Iterable[bytes]) -> str:
    """Names a request by all that its reply depends on, but not by the address, since servers move.

    The model's pixel limits are part of it, for they shape the pictures that are sent.
    """
    pictures = [hashlib.sha256(image).hexdigest() for image in images]
    parts = [teacher.model, teacher.temperature, teacher.max_tokens, prompt, pictures, model.min_pixels, model.max_pixels]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
