"""A Python process that answers JSON lines with JSON lines and may be killed at any moment.

Not `multiprocessing`: that would import the caller's main module again (a Ray worker's, a user's
script) and exchange pickles. A child ends by itself when its parent does: its standard input closes.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import visionr1

_SOURCES: Final = str(Path(visionr1.__file__).parents[1])
# This package's folder comes last in the path, so that it hides nothing where it is site-packages.
_START: Final = "import runpy, sys; sys.path.append(sys.argv.pop(1)); runpy.run_module(sys.argv.pop(1), run_name='__main__')"


class Child:
    """The process of `module`, run with `arguments`, seen from the parent; its first message says that it is ready.

    `stderr` is where its error output goes: subprocess.DEVNULL, or None for the parent's.
    """

    def __init__(self, module: str, *arguments: str, stderr: int | None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, _SOURCES, module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
        )
        assert self._process.stdin and self._process.stdout
        self._inlet, self._outlet = self._process.stdin, self._process.stdout
        os.set_blocking(self._outlet.fileno(), False)
        self._heard = bytearray()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def fileno(self) -> int:
        """For selectors: readable when a message or the child's end is there."""
        return self._outlet.fileno()

    def send(self, message: object) -> None:
        """Send one message. Raises BrokenPipeError if the child has died."""
        self._inlet.write(json.dumps(message).encode() + b"\n")
        self._inlet.flush()

    def receive(self) -> Any:
        """The answer to the message sent last, or None if it has not come whole. Raises EOFError if the child has died."""
        while not self._heard.endswith(b"\n"):
            try:
                piece = os.read(self.fileno(), 65_536)
            except BlockingIOError:
                return None
            if not piece:
                raise EOFError
            self._heard += piece
        message = json.loads(self._heard)
        self._heard.clear()
        return message

    def ask(self, message: object, seconds: float) -> Any:
        """Send, and wait for the answer. Raises TimeoutError; BrokenPipeError or EOFError if the child has died."""
        self.send(message)
        return self.wait(seconds)

    def wait(self, seconds: float) -> Any:
        """Wait for the next message. Raises TimeoutError, or EOFError if the child has died."""
        deadline = time.monotonic() + seconds
        poll = select.poll()
        poll.register(self, select.POLLIN)
        while (message := self.receive()) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            poll.poll(left * 1000)
        return message

    def kill(self) -> None:
        """End the child and its own children at once, whatever they are doing."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._outlet.close()
        with contextlib.suppress(BrokenPipeError):  # What was not yet sent has no reader any more.
            self._inlet.close()


def serve(start: Callable[[], tuple[object, Callable[[Any], object]]]) -> None:
    """The child's side: `start` gives the message that it is ready and what answers each one after it.

    Ends when the parent closes the pipe. What `start` or the handler print goes to standard error and what they read is
    empty, so they cannot spoil a message.
    """
    inlet, outlet = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    ready, handle = start()
    _report(outlet, ready)
    for line in inlet:
        _report(outlet, handle(json.loads(line)))


def limit_memory(gibibytes: int) -> None:
    """Bound the address space of this process and forbid core dumps."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (gibibytes << 30, gibibytes << 30))


def _report(outlet: Any, message: object) -> None:
    outlet.write(json.dumps(message).encode() + b"\n")
    outlet.flush()
