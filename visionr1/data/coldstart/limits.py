"""When a request may be sent, and how long to wait after one that was refused."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

FIRST_BACKOFF: Final = 0.5
LONGEST_BACKOFF: Final = 60.0
_BURST_SECONDS: Final = 10.0
"""A limit per minute is spent over the minute, not in its first second: many servers count in shorter windows, too."""


class Budget:
    """So much per minute, refilled evenly. What is taken may exceed what is left; later requests then wait for it."""

    def __init__(self, per_minute: float | None, now: float) -> None:
        self._per_second = None if per_minute is None else per_minute / 60
        self._most = 0.0 if per_minute is None else max(1.0, per_minute / 60 * _BURST_SECONDS)
        self._left = self._most
        self._at = now

    def wait(self, now: float) -> float:
        """Seconds until something may be taken; 0 if it may be now."""
        if self._per_second is None:
            return 0.0
        self._left = min(self._most, self._left + (now - self._at) * self._per_second)
        self._at = now
        return 0.0 if self._left > 0 else (1e-3 - self._left / self._per_second)

    def take(self, amount: float) -> None:
        """Takes `amount`; a negative one gives back."""
        self._left -= amount


def backoff(attempt: int) -> float:
    """Seconds to wait before asking again: doubling, spread so that requests part. `attempt` is from 0."""
    return min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(attempt, 10)) * random.uniform(0.75, 1.25)


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that a response asks to wait: `Retry-After` in seconds, whole or not, or as a date; `retry-after-ms`.

    A date is measured from the server's own `Date`, since clocks differ. None if it does not ask, or not in a form that is known.
    """
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        seconds = _number(headers.get(name, ""))
        if seconds is not None:
            return seconds * unit
    until = _date(headers.get("retry-after", ""))
    if until is None:
        return None
    now = _date(headers.get("date", "")) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds())


def _number(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
