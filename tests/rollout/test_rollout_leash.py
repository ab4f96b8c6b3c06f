from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

LEASH = [sys.executable, "-m", "visionr1.rollout.leash", str(os.getpid())]
LEAVES_A_CHILD = "sleep 600 & echo $! > {file}; wait"


def gone(pid: int, seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.1)
    return False


def child_in(file: Path) -> int:
    deadline = time.monotonic() + 20
    while not (file.exists() and file.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return int(file.read_text())


def test_the_exit_code_is_that_of_the_command() -> None:
    assert subprocess.run([*LEASH, "sh", "-c", "exit 7"]).returncode == 7


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_the_command_has_started_ends_with_the_leash(number: signal.Signals, tmp_path: Path) -> None:
    file = tmp_path / "child"
    leash = subprocess.Popen([*LEASH, "sh", "-c", LEAVES_A_CHILD.format(file=file)])
    child = child_in(file)
    leash.send_signal(number)
    leash.wait()
    assert gone(child)


def test_what_the_command_has_started_ends_with_it(tmp_path: Path) -> None:
    file = tmp_path / "child"
    leash = subprocess.Popen([*LEASH, "sh", "-c", LEAVES_A_CHILD.format(file=file).replace("wait", "exit 3")])
    assert leash.wait() == 3
    assert gone(child_in(file))


def test_the_command_ends_with_the_leash_s_parent(tmp_path: Path) -> None:
    file = tmp_path / "child"
    leash = f"{sys.executable} -m visionr1.rollout.leash $$ sh -c '{LEAVES_A_CHILD.format(file=file)}'; true"
    parent = subprocess.Popen(["sh", "-c", leash], start_new_session=True)
    child = child_in(file)
    os.killpg(parent.pid, signal.SIGKILL)  # as Ray does with a worker's group
    parent.wait()
    assert gone(child)
