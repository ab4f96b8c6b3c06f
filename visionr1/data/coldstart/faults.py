"""What can go wrong with a request to a teacher, sorted by what helps."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, Literal

from visionr1.data.badrow import one_line
from visionr1.data.coldstart.limits import asked_wait

_BUSY: Final = (408, 425, 429, 502, 503, 504, 529)
_REFUSED: Final = {
    401: "refuses the key (HTTP 401); set api_key_env to a variable with a valid one",
    402: "says that the account has no balance left (HTTP 402); pay for more, then run it again",
    403: "refuses the key (HTTP 403); set api_key_env to a variable with a valid one",
    404: "does not know the model {model!r} or the path (HTTP 404); correct model or base_url",
}
_TOO_LONG: Final = re.compile(
    r"context.{0,12}(?:length|window)|max_model_len|maximum.{0,30}tokens|too (?:long|many tokens)", re.IGNORECASE
)
_OBJECTED: Final = re.compile(r"content[_ ]?(?:filter|policy|management)|data_inspection_failed|inappropriate", re.IGNORECASE)


class Fault(Exception):
    """One request got no usable answer; the message is one line."""


class Busy(Fault):
    """The endpoint is not there, or takes no more requests now; `wait` is how many seconds it asks to wait, if it does."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class Failed(Fault):
    """This request failed; it may succeed the next time."""


class Refused(Fault):
    """The endpoint refuses every request until a person does something; the message says what."""


class Unanswerable(Fault):
    """This very request cannot be answered, now or later."""

    def __init__(self, message: str, rule: Literal["request failed", "too long for the teacher", "refused"]) -> None:
        super().__init__(message)
        self.rule = rule


def fault_of(status: int, headers: Mapping[str, str], body: str, model: str) -> Fault:
    """What an HTTP status other than 200 means; the message begins with a verb or with the status."""
    reason = _message_in(body)
    message = f"HTTP {status}: {reason}" if reason else f"HTTP {status}"
    if 300 <= status < 400:
        where = one_line(headers.get("location", "elsewhere"))
        return Refused(f"answers with a redirect to {where}, which is not followed; set base_url to the right address")
    if status == 402 or "insufficient_quota" in body:
        return Refused(_REFUSED[402])
    if status in _REFUSED:
        return Refused(_REFUSED[status].format(model=model))
    if status in _BUSY:
        return Busy(message, asked_wait(headers))
    if 400 <= status < 500 and status != 409:
        if _TOO_LONG.search(reason):
            return Unanswerable(message, "too long for the teacher")
        return Unanswerable(message, "refused" if _OBJECTED.search(body) else "request failed")
    return Failed(message)


def _message_in(body: str) -> str:
    """The message in an error's body."""
    try:
        answer: Any = json.loads(body)
    except (ValueError, RecursionError):
        return (
            "an HTML page" if body.lstrip()[:200].lower().startswith(("<!doctype", "<html")) else one_line(" ".join(body.split()))
        )
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    message = error.get("message", error) if isinstance(error, dict) else error
    return one_line(" ".join((message if isinstance(message, str) else json.dumps(message)).split()))
