"""Asks about every problem, and sifts the replies as they come: what is held in memory does not depend on how many there are."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from visionr1.data.badrow import BadRow
from visionr1.data.coldstart.bridge import Bridge, Bridged, Prepared
from visionr1.data.coldstart.choose import sift
from visionr1.data.coldstart.filters import SameAnswer
from visionr1.data.coldstart.judging import MANY, Judging
from visionr1.data.coldstart.outcomes import Outcomes
from visionr1.data.coldstart.teacher import EndpointLost
from visionr1.data.rows import Row
from visionr1.errors import Stopped
from visionr1.progress import Advance, progress
from visionr1.recipe.coldstart import ColdStart

POLL_SECONDS: Final = 0.5
_SIFTERS: Final = 2
"""While the answers of one chunk are compared, the next is judged."""
_READ_AT_ONCE: Final = 32
_READERS: Final = min(4, os.cpu_count() or 1)
_RATE_SECONDS: Final = 60.0
FEW_FAILURES: Final = 20
"""So many failed requests, or one in twenty if that is more, are reported; beyond that the endpoint is taken for lost."""


async def ask_all(
    bridge: Bridge,
    rows: Sequence[Row],
    outcomes: Outcomes,
    same_answer: SameAnswer,
    should_stop: Callable[[], bool],
    publish: Callable[[dict[str, Any]], None],
) -> None:
    """Fills `outcomes`, at most `concurrency` problems at a time, each with one request in flight.

    Raises Stopped when asked to stop, EndpointLost when too much fails, and as `TeacherClient.ask`.
    """
    with progress("cold start", len(rows)) as advance:
        view = _View(bridge, outcomes, len(rows), advance, publish)
        source, finished = _Source(rows, bridge), asyncio.Queue[Bridged | None](3 * MANY)
        judging = Judging(bridge.recipe.filters)

        async def work() -> None:
            async for index, problem in source:
                await finished.put(await bridge.reason(index, problem))

        async def work_all() -> None:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(bridge.recipe.concurrency, len(rows))):
                    group.create_task(work())
            for _ in range(_SIFTERS):
                await finished.put(None)

        sifters = (_sift_all(bridge.recipe, finished, judging, outcomes, same_answer) for _ in range(_SIFTERS))
        working = {asyncio.create_task(work_all()), *(asyncio.create_task(one) for one in sifters)}
        try:
            await _watch(working, bridge, outcomes, len(rows), should_stop, view)
        finally:
            for task in working:
                task.cancel()
            await asyncio.gather(*working, return_exceptions=True)
            view.show()
            judging.close()
            await bridge.describer.close()
            await bridge.reasoner.close()


class _Source:
    """Hands out rows with their places; they are read and prepared some at a time in threads, since each may wait for a disk."""

    def __init__(self, rows: Sequence[Row], bridge: Bridge) -> None:
        self._rows, self._bridge = rows, bridge
        self._next = 0
        self._ready: deque[tuple[int, Prepared | BadRow]] = deque()
        self._readers = asyncio.Semaphore(_READERS)

    def __aiter__(self) -> _Source:
        return self

    async def __anext__(self) -> tuple[int, Prepared | BadRow]:
        while not self._ready:
            async with self._readers:
                if self._ready:
                    break
                first = self._next
                self._next = last = min(len(self._rows), first + _READ_AT_ONCE)
                if first == last:
                    raise StopAsyncIteration
                self._ready.extend(await asyncio.to_thread(self._read, first, last))
        return self._ready.popleft()

    def _read(self, first: int, last: int) -> list[tuple[int, Prepared | BadRow]]:
        return [(index, self._row(index)) for index in range(first, last)]

    def _row(self, index: int) -> Prepared | BadRow:
        try:
            return self._bridge.prepared(self._rows[index])
        except BadRow as error:
            return error


async def _sift_all(
    recipe: ColdStart, finished: asyncio.Queue[Bridged | None], judging: Judging, outcomes: Outcomes, same_answer: SameAnswer
) -> None:
    """Sifts what is finished, many at a time while there are many."""
    more = True
    while more:
        chunk: list[Bridged] = []
        deadline = asyncio.get_running_loop().time() + POLL_SECONDS
        while more and len(chunk) < MANY:
            try:
                one = await _next(finished, deadline)
            except TimeoutError:
                break
            more = one is not None
            if one is not None:
                chunk.append(one)
        if chunk:
            judged = await judging.judge(chunk)
            for outcome in await asyncio.to_thread(sift, chunk, judged, recipe, same_answer):
                outcomes.add(outcome)


async def _next(finished: asyncio.Queue[Bridged | None], deadline: float) -> Bridged | None:
    """Without a timer where nothing has to be waited for. Raises TimeoutError."""
    if not finished.empty():
        return finished.get_nowait()
    async with asyncio.timeout_at(deadline):
        return await finished.get()


async def _watch(
    working: set[asyncio.Task[None]],
    bridge: Bridge,
    outcomes: Outcomes,
    total: int,
    should_stop: Callable[[], bool],
    view: _View,
) -> None:
    """Waits for the work; makes replies safe, shows what is done, and ends early on a stop request or a lost endpoint."""
    running = working
    while running:
        finished, running = await asyncio.wait(running, timeout=POLL_SECONDS, return_when=asyncio.FIRST_EXCEPTION)
        for task in finished:
            if (error := task.exception()) is not None:
                raise _first(error)
        await asyncio.to_thread(bridge.work.flush)
        view.show()
        if running and should_stop():
            raise Stopped(f"stopped with {len(outcomes)} of {total} problems answered; the replies are kept")
        if bridge.failures > max(FEW_FAILURES, total // 20):
            raise EndpointLost(
                f"{bridge.failures} of {total} problems failed, the last: {bridge.last_failure}; run it again for the rest"
            )


def _first(error: BaseException) -> BaseException:
    """The error of one worker, where several have ended with the same."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class _View:
    """What can be seen while it runs: the progress line, and what is published as metrics."""

    def __init__(
        self, bridge: Bridge, outcomes: Outcomes, total: int, advance: Advance, publish: Callable[[dict[str, Any]], None]
    ) -> None:
        self._bridge, self._outcomes, self._total, self._advance, self._publish = bridge, outcomes, total, advance, publish
        self._shown = self._asked = self._failed = 0
        self._tokens = {"describer": 0, "reasoner": 0}
        self._past: deque[tuple[float, int, int]] = deque([(time.monotonic(), 0, 0)])

    def show(self) -> None:
        """Shows and publishes what is new since the last time."""
        bridge, done = self._bridge, len(self._outcomes)
        waiting = bridge.describer.waiting() or bridge.reasoner.waiting()
        self._advance(done - self._shown, f"{waiting}; {self._note()}" if waiting else self._note())
        self._shown = done
        now = {"describer": bridge.describer.tokens, "reasoner": bridge.reasoner.tokens}
        self._publish(
            {
                "coldstart_answered": done,
                "coldstart_kept": self._outcomes.kept,
                "coldstart_dropped": dict(self._outcomes.dropped),
                "coldstart_requests": bridge.asked - self._asked,
                "coldstart_failures": bridge.failures - self._failed,
                "coldstart_tokens": {name: count - self._tokens[name] for name, count in now.items()},
                "coldstart_cost": {"describer": bridge.describer.cost, "reasoner": bridge.reasoner.cost},
            }
        )
        self._asked, self._failed, self._tokens = bridge.asked, bridge.failures, now

    def _note(self) -> str:
        """Rates over the last minute, what was kept and why the rest was not, the time that is left, and the cost."""
        done, tokens = len(self._outcomes), self._bridge.describer.tokens + self._bridge.reasoner.tokens
        self._past.append((time.monotonic(), done, tokens))
        while len(self._past) > 2 and self._past[-1][0] - self._past[1][0] > _RATE_SECONDS:
            self._past.popleft()
        then, before, fewer = self._past[0]
        seconds = max(1e-9, self._past[-1][0] - then)
        rate = (done - before) / seconds
        words = [f"{rate:,.1f} rows/s", f"{(tokens - fewer) / seconds:,.0f} tokens/s", f"{self._outcomes.kept:,} kept"]
        words += [f"{count:,} {rule}" for rule, count in self._outcomes.dropped.most_common(3)]
        if rate > 0 and done < self._total:
            words.append(f"{_duration((self._total - done) / rate)} left")
        cost = self._bridge.describer.cost + self._bridge.reasoner.cost
        return ", ".join(words) + (f", cost {cost:,.2f}" if cost else "")


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
