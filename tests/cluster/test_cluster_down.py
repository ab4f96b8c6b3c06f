"""Nothing of a test cluster stays on the machine: not after its end, and not after `make cluster-down` where it was killed."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from control_plane import HERE, wait_for

MADE = """
set -e
group=visionr1-pods-${{TMPDIR##*/}}
mkdir /sys/fs/cgroup/$group
echo $$ > /sys/fs/cgroup/$group/cgroup.procs
mount -t tmpfs $group /mnt
echo $TMPDIR > {reported}.new && mv {reported}.new {reported}
sleep {seconds}
"""
"""What a node leaves behind. The cgroup's name shows whose it is."""


class Started:
    """A cluster's frame in which somebody makes a mess."""

    def __init__(self, folder: Path, seconds: int) -> None:
        # The controllers of version 1 have a tree each.
        self.root = Path("/sys/fs/cgroup") if Path("/sys/fs/cgroup/cgroup.procs").exists() else Path("/sys/fs/cgroup/pids")
        self.reported = reported = folder / "said"
        script = MADE.format(reported=reported, seconds=seconds).replace("/sys/fs/cgroup", str(self.root))
        environment = {key: value for key, value in os.environ.items() if key != "VISIONR1_INSIDE"}
        self.process = subprocess.Popen([HERE / "inside.sh", "bash", "-c", script], env=environment)
        wait_for("the mess", lambda: reported.exists() or self.process.poll() is not None)
        self.folder = Path(reported.read_text().strip())
        self.group = f"visionr1-pods-{self.folder.name}"

    def left(self) -> list[str]:
        """What of it is still there."""
        names = [str(path) for path in (self.folder, self.root / self.group) if path.exists()]
        names += [line for line in Path("/proc/self/mounts").read_text().splitlines() if self.group in line]
        commands = {path.parent.name: _bytes(path).decode().replace("\0", " ") for path in Path("/proc").glob("[0-9]*/cmdline")}
        return names + [command for command in commands.values() if str(self.reported) in command]


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def cluster_down() -> None:
    subprocess.run([HERE / "down.sh"], check=True)


@pytest.fixture(autouse=True)
def as_root() -> Iterator[None]:
    if os.environ.get("VISIONR1_INSIDE") == "user":
        pytest.skip("without root a cluster makes nothing that outlives it")
    yield
    cluster_down()


def test_nothing_is_left_after_the_end(tmp_path: Path) -> None:
    started = Started(tmp_path, seconds=1)
    assert started.process.wait(60) == 0
    assert started.left() == []


def test_nothing_is_left_when_it_is_told_to_end(tmp_path: Path) -> None:
    started = Started(tmp_path, seconds=600)
    started.process.send_signal(signal.SIGTERM)
    assert started.process.wait(60) == 143
    assert started.left() == []


def test_what_a_killed_one_has_left_is_removed_and_what_runs_is_not(tmp_path: Path) -> None:
    started = Started(tmp_path, seconds=600)
    cluster_down()
    assert len(started.left()) >= 3
    started.process.kill()
    started.process.wait()
    assert len(started.left()) >= 3
    cluster_down()
    assert started.left() == []
