"""Watches the API server. A change of a run, or of an object that belongs to it, puts the run into the queue.

Watches only wake the operator. The resync finds what they miss.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, Final

from ptst_operator.api import Api, ApiError
from ptst_operator.children.table import RESOURCES
from ptst_operator.names import KIND, RUN_LABEL, Manifest
from ptst_operator.run_queue import LONGEST_WAIT, RunQueue, backoff

WATCHED: Final = (KIND, *(one.kind for one in RESOURCES.values() if one.watched))
_WATCH_SECONDS: Final = 60
_SHORTEST_WATCH: Final = 1.0
_log = logging.getLogger(__name__)


class ApiWatcher(threading.Thread):
    """Lists and watches one kind, and adds to the queue the run that each object belongs to.

    `beat` is the monotonic time of the API server's last answer. The API server ends a watch after a minute, so a beat
    older than a few minutes means that the watch hangs. A kind without an installed CRD is tried again from time to time.
    A run is in the queue as `namespace/name`.
    """

    def __init__(self, api: Api, kind: str, queue: RunQueue) -> None:
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
                elif error.status != 410:  # 410: the version was too old, and a new list has a newer one
                    _log.warning("watching %s: %s", self._kind, error)
                lasted = time.monotonic() - begun > LONGEST_WAIT
                failures = 1 if lasted else failures + 1
                time.sleep(LONGEST_WAIT if error.status == 404 else backoff(failures))

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
            # A proxy may end a watch as soon as it begins.
            time.sleep(max(0.0, begun + _SHORTEST_WATCH - self.beat))


def run_of(kind: str, manifest: Manifest) -> str | None:
    """The run that an object is, or belongs to, as `namespace/name`. None for other objects."""
    meta: dict[str, Any] = manifest["metadata"]
    name = meta["name"] if kind == KIND else meta.get("labels", {}).get(RUN_LABEL)
    return f"{meta['namespace']}/{name}" if name else None
