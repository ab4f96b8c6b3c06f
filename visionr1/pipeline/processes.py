"""A phase's process and everything below it: start, watch its memory, end it, find what it left behind."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

from visionr1.rundir.attempts import ATTEMPT

_PR_SET_PDEATHSIG: Final = 1
_KILLED_SECONDS: Final = 10.0
"""Killed processes are gone long before, except those that hang in the kernel."""


def start(command: Sequence[str], folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start an attempt in a session of its own, with all that it prints in `log`.

    All processes of the attempt inherit VISIONR1_ATTEMPT. Its value, the attempt's folder, finds them even
    after their parents died and in sessions of their own (torchrun's workers, Ray).

    If this process is killed, the new one is asked to stop (SIGTERM), so that it commits a checkpoint.
    """
    environment = {**os.environ, ATTEMPT: str(folder), "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            preexec_fn=_stopped_with(os.getpid()),
        )


def _stopped_with(parent: int) -> Callable[[], None] | None:
    """What makes a child get SIGTERM when `parent` dies; other systems than Linux have no such thing."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)  # here, because a fresh child must not load libraries

    def before_exec() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the parent's handler would hear it for a program that is not there yet
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the line above
            os.kill(os.getpid(), signal.SIGTERM)

    return before_exec


def tree_bytes(pid: int) -> int:
    """Resident bytes of a process and all below it; pages that several share are counted once (PSS)."""
    try:
        root = psutil.Process(pid)
        return sum(_resident(process) for process in [root, *root.children(recursive=True)])
    except psutil.NoSuchProcess:
        return 0


def _resident(process: psutil.Process) -> int:
    try:
        memory = process.memory_full_info()
        return int(getattr(memory, "pss", memory.rss))
    except psutil.Error:  # it has just ended, or is not ours to look into
        return 0


def marked(folder: Path) -> list[psutil.Process]:
    """Living processes that belong to the attempt in `folder`."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(ATTEMPT) == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:  # ended, or another user's
            continue
    return found


def wait_for(command: Sequence[str], folder: Path, seconds: float) -> None:
    """Wait until the attempt's own process, which was started by `command`, has ended; what it started was not asked to."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(_runs(process, command) for process in marked(folder)):
        time.sleep(0.1)


def _runs(process: psutil.Process, command: Sequence[str]) -> bool:
    try:
        return process.cmdline() == list(command)
    except psutil.Error:  # it has just ended
        return False


def end_all(folder: Path, grace_seconds: float = 0.0) -> None:
    """Give the attempt's processes so many seconds to end by themselves, then kill what is left."""
    deadline = time.monotonic() + grace_seconds
    while (left := marked(folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for process in left:
        with suppress(psutil.NoSuchProcess):  # it has just ended
            process.kill()
    deadline = time.monotonic() + _KILLED_SECONDS
    while marked(folder) and time.monotonic() < deadline:
        time.sleep(0.02)
