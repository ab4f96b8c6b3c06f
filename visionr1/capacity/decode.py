"""How long one engine decodes: continuous batching, event by event."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence


def decode_seconds(prompt: float, lengths: Sequence[float], slots: int, step_seconds: Callable[[int, float], float]) -> float:
    """Seconds until every sequence is complete.

    Args:
        prompt: tokens of each prompt.
        lengths: tokens of the completions, in the order in which they begin.
        slots: sequences that are decoded at the same time.
        step_seconds: of one token of each of so many sequences that have so many tokens together.
    """
    waiting = iter(lengths)
    running: list[tuple[float, float]] = []  # (the step that ends it, the step that began it)
    begun_sum, now, seconds = 0.0, 0.0, 0.0
    while True:
        while len(running) < slots and (length := next(waiting, None)) is not None:
            heapq.heappush(running, (now + length, now))
            begun_sum += now
        if not running:
            return seconds
        end, begun = heapq.heappop(running)
        active = len(running) + 1
        middle = (now + end) / 2
        seconds += (end - now) * step_seconds(active, active * (prompt + middle) - begun_sum)
        begun_sum -= begun
        now = end


def mixed(lengths: Sequence[float]) -> list[float]:
    """Sorted lengths in an order that has long and short ones everywhere, the same one each time."""
    count = len(lengths)
    stride = next(step for step in range(max(1, round(count * 0.618)), count + 1) if _coprime(step, count))
    return [lengths[place * stride % count] for place in range(count)]


def _coprime(one: int, other: int) -> bool:
    while other:
        one, other = other, one % other
    return one == 1
