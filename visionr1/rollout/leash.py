"""Runs a command in a process group of its own, and ends the whole group with the command or with this process's parent.

    python -m visionr1.rollout.leash PARENT COMMAND ...

vLLM's engine is a process of its own. It outlives the server that has started it if that is killed, and keeps the GPU.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import Final

_LOOK_SECONDS: Final = 0.5


def main() -> int:
    """The exit code of the command."""
    outer = os.getpid()
    inner = os.fork()
    if inner == 0:
        os._exit(_hold(outer, sys.argv[2:]))
    while os.getppid() == int(sys.argv[1]):
        pid, status = os.waitpid(inner, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(_LOOK_SECONDS)
    return 1


def _hold(outer: int, words: list[str]) -> int:
    """Holds the command as long as the outer process is there. Ray kills a worker's children and its group."""
    os.setsid()
    command = subprocess.Popen(words, process_group=0)
    signal.signal(signal.SIGTERM, lambda *_: command.kill())
    while command.poll() is None and os.getppid() == outer:
        time.sleep(_LOOK_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(command.pid, signal.SIGKILL)
    return command.wait() & 0xFF


if __name__ == "__main__":
    sys.exit(main())
