"""The queue of runs to look at."""

from __future__ import annotations

import threading
import time

from ptst_operator.run_queue import RunQueue


def test_a_queue_hands_a_name_to_one_worker_at_a_time_and_at_its_earliest_time() -> None:
    queue = RunQueue()
    now = time.monotonic()
    queue.add("later", now + 60)
    queue.add("a", now + 60)
    queue.add("a")
    assert queue.take(0.0) == "a"
    queue.add("a")
    assert queue.take(0.05) is None, "it is being looked at"
    queue.done("a")
    assert queue.take(0.0) == "a"
    queue.done("a")
    assert queue.take(0.0) is None
    assert len(queue) == 1
    taken: list[str | None] = []
    waiting = threading.Thread(target=lambda: taken.append(queue.take(10.0)))
    waiting.start()
    queue.add("b")
    waiting.join(5)
    assert taken == ["b"], "who waits is woken"


def test_a_name_that_rests_is_woken_by_nobody() -> None:
    queue, now = RunQueue(), time.monotonic()
    queue.add("a")
    assert queue.take(0.0) == "a"
    queue.add("a")  # the watch has seen what the look has written
    queue.rest("a", now + 0.2)
    queue.done("a")
    queue.add("a")
    queue.add("b")
    assert queue.take(0.0) == "b"
    assert queue.take(0.05) is None
    assert queue.take(1.0) == "a" and time.monotonic() >= now + 0.2
    queue.done("a")
    queue.add("a")
    assert queue.take(0.0) == "a", "it rests once"
