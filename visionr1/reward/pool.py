"""Comparing answers in processes that can be killed.

sympy can hang in C code that no exception and no alarm of the caller interrupts, and an alarm works
in the main thread alone, which a Ray actor's method does not run in. So each comparison has a
process, a wall-clock limit and SIGKILL; a killed process is replaced and the others go on. `worker` keeps
the limit over a fork of itself; this module hands out the answers and replaces workers that die.
"""

from __future__ import annotations

import selectors
import subprocess
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Final, NamedTuple

from visionr1.child import Child
from visionr1.errors import BadInput

RIGHT: Final = "right"
WRONG: Final = "wrong answer"
TIMED_OUT: Final = "timed out"
DIED: Final = "not comparable: the grading process died"
_START_SECONDS: Final = 300.0
_MOST_FAILED_STARTS: Final = 5
_GRACE_SECONDS: Final = 5.0


@dataclass
class _Worker:
    """A child with its deadline (monotonic clock); `job` is the index that it works on, if any."""

    child: Child
    deadline: float
    ready: bool = False
    job: int | None = None


class Comparison(NamedTuple):
    """An answer, the true one, and the texts of the options, if the problem has some."""

    answer: str
    truth: str
    options: tuple[str, ...] = ()


class Pool:
    """`processes` children, started when there is work for them. Safe to call from any thread, one at a time.

    `timeouts` counts the answers that ran over `seconds` since the pool was made.
    """

    def __init__(self, processes: int, seconds: float) -> None:
        self.timeouts = 0
        self._processes = processes
        self._seconds = seconds
        self._failed_starts = 0
        self._selector = selectors.DefaultSelector()
        self._workers: list[_Worker] = []
        self._lock = threading.Lock()

    def compare(self, comparisons: list[Comparison]) -> list[str]:
        """A verdict for each: RIGHT, WRONG, TIMED_OUT or one that says what went wrong.

        If the process of an answer dies, the answer is tried once more. Raises BadInput if math-verify is not installed.
        """
        with self._lock:
            batch = _Batch(comparisons)
            try:
                while len(batch.verdicts) < len(comparisons):
                    self._hand_out(batch)
                    self._listen(batch)
            except BaseException:
                self._remove_all()  # Their unfinished answers must not be taken for the next batch's.
                raise
            return [batch.verdicts[index] for index in range(len(comparisons))]

    def close(self) -> None:
        """Kill all children at once."""
        with self._lock:
            self._remove_all()
            self._selector.close()

    def _hand_out(self, batch: _Batch) -> None:
        while len(self._workers) < min(self._processes, len(batch.comparisons) - len(batch.verdicts)):
            child = Child("visionr1.reward.worker", stderr=subprocess.DEVNULL)
            self._workers.append(_Worker(child, time.monotonic() + _START_SECONDS))
            self._selector.register(child, selectors.EVENT_READ, self._workers[-1])
        for worker in list(self._workers):
            if batch.waiting and worker.ready and worker.job is None:
                worker.job = batch.waiting.popleft()
                worker.deadline = time.monotonic() + self._seconds + _GRACE_SECONDS
                try:
                    answer, truth, options = batch.comparisons[worker.job]
                    worker.child.send([answer, truth, self._seconds, options])
                except BrokenPipeError:
                    self._bury(worker, batch)

    def _listen(self, batch: _Batch) -> None:
        busy = [worker for worker in self._workers if worker.job is not None or not worker.ready]
        patience = min((worker.deadline for worker in busy), default=0.0) - time.monotonic()
        for key, _ in self._selector.select(max(patience, 0.0)):
            self._hear(key.data, batch)
        now = time.monotonic()
        for worker in [worker for worker in busy if worker in self._workers and worker.deadline <= now]:
            if worker.job is None:
                raise RuntimeError(f"a grading process did not start within {_START_SECONDS:.0f} s")
            self._conclude(worker.job, TIMED_OUT, batch)
            self._remove(worker)

    def _hear(self, worker: _Worker, batch: _Batch) -> None:
        try:
            message = worker.child.receive()
        except EOFError:
            self._bury(worker, batch)
            return
        if message is None:
            return
        if worker.job is not None:
            self._conclude(worker.job, message, batch)
            worker.job = None
        elif message["error"]:
            raise BadInput(f"answers cannot be graded: {message['error']}")
        worker.ready = True

    def _bury(self, worker: _Worker, batch: _Batch) -> None:
        """Replace a child that died of itself; its answer gets a second try."""
        self._remove(worker)
        self._failed_starts = 0 if worker.ready else self._failed_starts + 1
        if self._failed_starts > _MOST_FAILED_STARTS:
            raise RuntimeError("grading processes die while they start; is there enough memory?")
        if worker.job is None:
            return
        if worker.job in batch.tried:
            self._conclude(worker.job, DIED, batch)
        else:
            batch.tried.add(worker.job)
            batch.waiting.append(worker.job)

    def _conclude(self, job: int, verdict: str, batch: _Batch) -> None:
        batch.verdicts[job] = verdict
        self.timeouts += verdict == TIMED_OUT

    def _remove_all(self) -> None:
        for worker in list(self._workers):
            self._remove(worker)

    def _remove(self, worker: _Worker) -> None:
        self._selector.unregister(worker.child)
        self._workers.remove(worker)
        worker.child.kill()


class _Batch:
    """The comparisons of one call, those that wait for a process, and the verdicts so far, by index."""

    def __init__(self, comparisons: list[Comparison]) -> None:
        self.comparisons = comparisons
        self.waiting = deque(range(len(comparisons)))
        self.verdicts: dict[int, str] = {}
        self.tried: set[int] = set()
