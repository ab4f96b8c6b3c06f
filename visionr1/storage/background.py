"""Storing behind the training loop's back: one piece of work at a time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread


class Background:
    """One piece of work at a time. Whoever starts the next one waits for the one before, and gets its error if it failed.

    The thread does not keep a process alive that ends by an error: what it stored by then is not committed.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._work: Future[None] | None = None

    def start(self, work: Callable[[], object]) -> None:
        """Waits for the work before, then begins this; raises what `wait` raises."""
        self.wait()
        self._work = Future()
        Thread(target=_do, args=(work, self._work), name=self._name, daemon=True).start()

    def running(self) -> bool:
        """Whether work is under way; raises the error of work that failed."""
        if self._work is not None and self._work.done():
            self.wait()
        return self._work is not None

    def wait(self) -> None:
        """Returns when nothing is under way; raises the error of work that failed, once."""
        work, self._work = self._work, None
        if work is not None:
            work.result()


def _do(work: Callable[[], object], future: Future[None]) -> None:
    try:
        work()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(None)
