"""Judges many replies in a process of its own: patterns over long texts take most of the time that this phase itself needs."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Final

from visionr1.data.coldstart.bridge import Bridged
from visionr1.data.coldstart.choose import Judged, judge_all
from visionr1.recipe.coldstart import Filters

MANY: Final = 256
"""Fewer replies are judged in a thread: starting a process takes longer."""


class Judging:
    """Starts its process when it first has many replies at once; close it after use."""

    def __init__(self, filters: Filters) -> None:
        self._filters = filters
        self._pool: ProcessPoolExecutor | None = None

    async def judge(self, problems: Sequence[Bridged]) -> list[Judged]:
        """As `judge_all`."""
        replies = [problem.replies for problem in problems]
        if len(problems) < MANY:
            return await asyncio.to_thread(judge_all, replies, self._filters)
        if self._pool is None:
            self._pool = ProcessPoolExecutor(1, get_context("spawn"), initializer=_end_with_parent, initargs=(os.getpid(),))
        return await asyncio.get_running_loop().run_in_executor(self._pool, judge_all, replies, self._filters)

    def close(self) -> None:
        """Ends the process."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def _end_with_parent(parent: int) -> None:
    """A killed parent cannot end its process, which would wait for work for ever."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
