"""Threads that look at runs. One whose look hangs is replaced, so that one run's trouble does not delay the others."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Final

from ptst_operator.run_queue import RunQueue

SLOW_SECONDS: Final = 20.0
"""A look of this length gets another worker in its place."""
HUNG_SECONDS: Final = 300.0
"""A look of this length makes the operator unhealthy."""
MOST_WORKERS: Final = 64
"""Threads that hang are replaced up to this number."""


class Workers:
    """Workers that take names from a queue and look at the runs of these names."""

    def __init__(self, queue: RunQueue, look: Callable[[str], float]) -> None:
        """`look` returns the seconds until the next look at this run, and never raises."""
        self._queue = queue
        self._look = look
        self._stop = threading.Event()
        self._numbers = itertools.count()
        self._threads: list[threading.Thread] = []
        self._replaced: set[threading.Thread] = set()
        self._looks: dict[threading.Thread, tuple[str, float]] = {}

    def run(self, count: int, stopped: threading.Event, grace: float) -> None:
        """Keeps `count` workers that do not hang, until `stopped`; then waits `grace` seconds for their current looks."""
        for _ in range(count):
            self._start()
        while not stopped.wait(1.0):
            self._replace_slow()
        self._stop.set()
        end = time.monotonic() + grace
        for thread in list(self._threads):
            thread.join(timeout=max(0.0, end - time.monotonic()))

    def unhealthy(self) -> str | None:
        """What is wrong, or None."""
        now = time.monotonic()
        for name, began in list(self._looks.values()):
            if now - began > HUNG_SECONDS:
                return f"a look at {name} has lasted {now - began:.0f} s"
        dead = [thread.name for thread in list(self._threads) if not thread.is_alive() and thread not in self._replaced]
        return f"{dead[0]} has ended" if dead else None

    def _start(self) -> None:
        thread = threading.Thread(target=self._work, name=f"worker-{next(self._numbers)}", daemon=True)
        thread.start()
        self._threads.append(thread)  # only now: a thread that has not begun would count as ended

    def _replace_slow(self) -> None:
        now = time.monotonic()
        ended = {thread for thread in self._replaced if not thread.is_alive()}
        self._replaced -= ended
        self._threads = [thread for thread in self._threads if thread not in ended]
        for thread, (_, began) in list(self._looks.items()):
            if now - began > SLOW_SECONDS and thread not in self._replaced and len(self._threads) < MOST_WORKERS:
                self._replaced.add(thread)
                self._start()

    def _work(self) -> None:
        me = threading.current_thread()
        while not self._stop.is_set() and me not in self._replaced:
            name = self._queue.take(1.0)
            if name is None:
                continue
            self._looks[me] = (name, time.monotonic())
            try:
                self._queue.add(name, time.monotonic() + self._look(name))  # at infinity if the run is gone
            finally:
                del self._looks[me]
                self._queue.done(name)
