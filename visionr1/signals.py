"""Stopping on request: a signal sets a flag, the phase commits a checkpoint and ends."""

from __future__ import annotations

import signal
import sys
from types import FrameType


def end_on_sigterm(process: int, code: int) -> None:
    """Lets SIGTERM end this process with a code, if its id says that it is the first of a container, which would ignore it."""
    if process == 1:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(code))


class StopFlag:
    """Inside the `with` block SIGTERM and Ctrl-C only set the flag; a second one acts as usual."""

    def __init__(self) -> None:
        self._set = False
        self._before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def __enter__(self) -> StopFlag:
        for number in self._before:
            signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self._set = True
        signal.signal(number, self._before[signal.Signals(number)])

    def __call__(self) -> bool:
        """Whether a signal has come."""
        return self._set
