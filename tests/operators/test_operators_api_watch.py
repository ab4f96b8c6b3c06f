"""The watcher's patience, by a clock of the tests: it neither spins nor falls asleep."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from ptst_operator import api_watch
from ptst_operator.api import ApiError
from ptst_operator.run_queue import RunQueue


class Done(BaseException):
    """The scene is over."""


class Clock:
    """Time that passes only where somebody waits."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


class Scene:
    """An API whose watches last `lasts` seconds and then end, or fail with `error`; after `watches` of them it is over."""

    def __init__(self, clock: Clock, watches: int, lasts: float, error: ApiError | None = None) -> None:
        self.clock, self.left, self.lasts, self.error = clock, watches, lasts, error

    def list(self, kind: str) -> dict[str, Any]:
        return {"items": [], "metadata": {"resourceVersion": "1"}}

    def watch(self, kind: str, version: str, seconds: int) -> Iterator[dict[str, Any]]:
        if self.left == 0:
            raise Done
        self.left -= 1
        self.clock.now += self.lasts
        if self.error is not None:
            raise self.error
        return iter(())


def play(monkeypatch: pytest.MonkeyPatch, watches: int, lasts: float, error: ApiError | None = None) -> Clock:
    clock = Clock()
    monkeypatch.setattr(api_watch, "time", clock)
    with pytest.raises(Done):
        api_watch.ApiWatcher(Scene(clock, watches, lasts, error), "PTSTRun", RunQueue()).run()  # type: ignore[arg-type]
    return clock


def test_watches_that_end_at_once_are_not_begun_anew_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert play(monkeypatch, 20, lasts=0.0).now - 1000.0 >= 20


def test_a_watch_that_has_lasted_is_begun_anew_without_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sum(play(monkeypatch, 20, lasts=60.0).waits) == 0


def test_failures_that_are_far_apart_do_not_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the version that is too old of a quiet kind, day after day: a new run must not wait half a minute for it."""
    clock = play(monkeypatch, 30, lasts=3600.0, error=ApiError(410, "too old"))
    assert max(clock.waits) <= 1.0


def test_failures_in_a_row_are_waited_for_longer_and_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = play(monkeypatch, 12, lasts=0.0, error=ApiError(500, "no"))
    assert clock.waits[0] <= 1.0 and 15.0 <= clock.waits[-1] <= 30.0


def test_who_has_waited_longest_is_next_whatever_its_name() -> None:
    """With two hundred runs that change all the time, z must not wait until a to y have rest."""
    queue = RunQueue()
    for name in ("z", "m", "a"):
        queue.add(name)
    assert [queue.take(0) for _ in range(3)] == ["z", "m", "a"]
