"""Which run to look at next, and when one that failed is tried again."""

from __future__ import annotations

import heapq
import math
import random
import threading
import time
from typing import Final

LONGEST_WAIT: Final = 30.0
"""Seconds between two tries, at most."""
LONGEST_REST: Final = 5.0
"""Seconds after a failed try, at most, in which no change of the run wakes it."""


class RunQueue:
    """Names of runs with the time at which they are due. A name is in the queue once, and only one worker has it at a time."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._rest: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        self._busy: set[str] = set()
        self._lock = threading.Condition()

    def add(self, name: str, at: float = 0.0) -> None:
        """Makes the name due at `at` (monotonic seconds). An earlier time that it already has stays. Infinity means never.

        Names that have been due for longer come first.
        """
        with self._lock:
            at = max(at, time.monotonic(), self._rest.get(name, 0.0))
            if at < self._due.get(name, math.inf):
                self._put(name, at)

    def rest(self, name: str, until: float) -> None:
        """Makes the name due no earlier than `until` (monotonic seconds), whoever adds it.

        A look that fails writes why into its run, and this change wakes the run again at once.
        """
        with self._lock:
            self._rest[name] = until
            if self._due.get(name, math.inf) < until:
                self._put(name, until)

    def _put(self, name: str, at: float) -> None:
        self._due[name] = at
        heapq.heappush(self._heap, (at, name))
        self._lock.notify()

    def take(self, wait: float) -> str | None:
        """A name that is due. None if no name is due within `wait` seconds. Call `done` when the work is finished."""
        end = time.monotonic() + wait
        with self._lock:
            while True:
                now = time.monotonic()
                busy = []
                name = None
                while self._heap and self._heap[0][0] <= now:
                    at, first = heapq.heappop(self._heap)
                    if self._due.get(first) != at:
                        continue  # it was added again for an earlier time
                    if first in self._busy:
                        busy.append((at, first))
                        continue
                    name = first
                    break
                for entry in busy:
                    heapq.heappush(self._heap, entry)
                if name is not None:
                    del self._due[name]
                    self._rest.pop(name, None)
                    self._busy.add(name)
                    return name
                if now >= end:
                    return None
                next_due = min((at for at, one in self._heap if one not in self._busy), default=end)
                self._lock.wait(max(0.0, min(end, next_due) - now))

    def done(self, name: str) -> None:
        """The worker has finished with the name."""
        with self._lock:
            self._busy.discard(name)
            self._lock.notify()

    def __len__(self) -> int:
        with self._lock:
            return len(self._due)


def backoff(failures: int) -> float:
    """Seconds before a name is tried again after so many failures in a row, with jitter."""
    return min(LONGEST_WAIT, 0.5 * 2.0 ** min(failures, 10)) * random.uniform(0.5, 1.0)
