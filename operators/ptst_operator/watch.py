"""Which run to look at next: watches only wake; whatever they miss, the resync finds."""

from __future__ import annotations

import heapq
import logging
import math
import random
import threading
import time
from typing import Any, Final

from ptst_operator.api import Api, ApiError
from ptst_operator.children.pods import RUN_LABEL, Manifest

WATCHED: Final = ("PTSTRun", "PyTorchJob", "TrainJob", "RayCluster", "RayJob", "Job")
_WATCH_SECONDS: Final = 60
_LONGEST_WAIT: Final = 30.0
_SHORTEST_WATCH: Final = 1.0
_log = logging.getLogger(__name__)


class Queue:
    """Names with the time at which they are due; a name is in it once, and handed to one worker at a time."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        self._busy: set[str] = set()
        self._lock = threading.Condition()

    def add(self, name: str, at: float = 0.0) -> None:
        """The name is due at `at` (monotonic seconds), or earlier if it was; infinity is never.

        What is due at once waits behind those that have been due for longer.
        """
        at = max(at, time.monotonic())
        with self._lock:
            if at < self._due.get(name, math.inf):
                self._due[name] = at
                heapq.heappush(self._heap, (at, name))
                self._lock.notify()

    def take(self, wait: float) -> str | None:
        """A name that is due; None if there is none for `wait` seconds. Call `done` after."""
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
    return min(_LONGEST_WAIT, 0.5 * 2.0 ** min(failures, 10)) * random.uniform(0.5, 1.0)


class Watcher(threading.Thread):
    """Lists and watches one kind, and adds to the queue the run that each object belongs to.

    `beat` is the monotonic time at which the API server last answered; a watch ends after a minute by itself, so a beat older
    than a few minutes is a watch that hangs. A kind whose CRD is not installed is asked for again now and then.
    """

    def __init__(self, api: Api, kind: str, queue: Queue) -> None:
        super().__init__(name=f"watch-{kind}", daemon=True)
        self.beat = 0.0
        self.ready = threading.Event()
        self._api, self._kind, self._queue = api, kind, queue

    def run(self) -> None:
        """Never returns."""
        failures = 0
        while True:
            begun = time.monotonic()
            try:
                self._follow(self._list())
            except ApiError as error:
                if error.status == 404:
                    self.beat = time.monotonic()
                    self.ready.set()
                elif error.status != 410:  # the version was too old, which a new list fixes
                    _log.warning("watching %s: %s", self._kind, error)
                lasted = time.monotonic() - begun > _LONGEST_WAIT
                failures = 1 if lasted else failures + 1
                time.sleep(_LONGEST_WAIT if error.status == 404 else backoff(failures))

    def _list(self) -> str:
        found = self._api.list(self._kind)
        self.beat = time.monotonic()
        for item in found["items"]:
            if name := run_of(self._kind, item):
                self._queue.add(name)
        self.ready.set()
        return str(found["metadata"]["resourceVersion"])

    def _follow(self, version: str) -> None:
        while True:
            begun = time.monotonic()
            for event in self._api.watch(self._kind, version, _WATCH_SECONDS):
                self.beat = time.monotonic()
                version = event["object"]["metadata"]["resourceVersion"]
                name = None if event["type"] == "BOOKMARK" else run_of(self._kind, event["object"])
                if name:
                    self._queue.add(name)
            self.beat = time.monotonic()
            # What stands between may end a watch as soon as it begins.
            time.sleep(max(0.0, begun + _SHORTEST_WATCH - self.beat))


def run_of(kind: str, manifest: Manifest) -> str | None:
    """The run that an object is, or belongs to; None for objects of other people."""
    meta: dict[str, Any] = manifest["metadata"]
    name = meta["name"] if kind == "PTSTRun" else meta.get("labels", {}).get(RUN_LABEL)
    return str(name) if name else None
