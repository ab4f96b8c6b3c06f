"""What a machine may lack: one clear line from a real process, and the exit code that says whether trying again helps."""

import ctypes
import fcntl
import os
import resource
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from visionr1.recipe import load_recipe, to_yaml

ROOT = Path(__file__).parents[2]
VISIONR1 = [sys.executable, "-m", "visionr1.cli"]
STAGE = [
    "coldstart=null",
    "sft=null",
    "data.held_out=null",
    "data.train.limit=8",
    "algorithm.prompts_per_step=2",
    "stages=[{max_completion_tokens: 8, group_size: 2, steps: 1}]",
]
NAMESPACE = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]


def can_mount() -> bool:
    """Whether a process of this user may have mounts of its own (in some containers it may not)."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True).returncode == 0


def reported(code: int, *words: str | Path, mount: str = "", **options: Any) -> str:
    """The last line of `visionr1 WORDS`, after it ended with `code`; `mount` is a mount command before it."""
    command = [*VISIONR1, *map(str, words)]
    if mount:
        command = [*NAMESPACE, "sh", "-c", f"{mount} && exec {shlex.join(command)}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, **options)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return str(done.stderr.strip().splitlines()[-1])


def stage(run: Path, *settings: str) -> Path:
    """A run directory with a first stage that may begin."""
    run.mkdir()
    (run / "recipe.yaml").write_text(to_yaml(load_recipe("demo", [*STAGE, *settings])))
    return run


def test_a_full_disk(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    if can_mount():
        line = reported(1, "run", "demo", "--run", run, mount=f"mount -t tmpfs -o size=4k tmpfs {run}")
        assert (
            line
            == f"{run}/recipe.yaml: the disk is full; free some space, keep fewer checkpoints or choose another run directory"
        )
    else:
        line = reported(
            1, "run", "demo", "--run", run, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
        )
        assert line.startswith(f"{run}/recipe.yaml: larger than a file may be here; raise the limit")


def test_a_read_only_run_directory(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    if can_mount():
        line = reported(1, "run", "demo", "--run", run, mount=f"mount -t tmpfs -o ro tmpfs {run}")
        assert line == f"{run}/.lock: the file system is read-only; mount it writable or choose another run directory"
    else:
        line = reported(1, "run", "demo", "--run", "/sys/visionr1")
        assert "no permission; give user" in line or "read-only; mount it writable" in line


@pytest.mark.parametrize("name", ["TMPDIR", "RAY_TMPDIR"])
@pytest.mark.parametrize("words", [["grpo", "--stage", "1"], ["run"]])
def test_a_folder_that_is_too_long_for_rays_sockets(tmp_path: Path, name: str, words: list[str]) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    environment = {**os.environ, "TMPDIR": "/tmp", name: str(folder)}
    line = reported(64, *words, "--run", stage(tmp_path / "run"), env=environment)
    assert line.startswith(f"{name}: {folder} is too long for Ray, whose sockets are below it: set RAY_TMPDIR to a folder")


def test_a_ray_cluster_that_does_not_answer(tmp_path: Path) -> None:
    run = stage(tmp_path / "run")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        line = reported(1, "grpo", "--stage", "1", "--run", run, env={**os.environ, "RAY_ADDRESS": address})
    assert line.startswith(f"RAY_ADDRESS: no Ray cluster answers at {address} (20 s): start it, correct the address")
    line = reported(64, "run", "--run", run, env={**os.environ, "RAY_ADDRESS": address})
    assert line.startswith(f"RAY_ADDRESS: no Ray cluster answers at {address} (Connection refused)")


@pytest.mark.parametrize("shared_memory", ["size=64m", "ro"])
def test_too_little_shared_memory(tmp_path: Path, shared_memory: str) -> None:
    run = stage(tmp_path / "run")
    if can_mount():
        line = reported(64, "grpo", "--run", run, "--stage", "1", mount=f"mount -t tmpfs -o {shared_memory} tmpfs /dev/shm")
    else:
        check = "import visionr1.rollout.cluster as c, pathlib; c.require_shared_memory(pathlib.Path('/proc/visionr1'))"
        done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True)
        line = done.stderr.strip().splitlines()[-1]
    assert "64 MiB are free, and Ray needs 256" in line or "Ray needs shared memory here, but cannot write to it" in line
    assert "a container: --shm-size=512m" in line


def test_no_libnuma(tmp_path: Path) -> None:
    run = stage(tmp_path / "run")
    if can_mount():
        ctypes.CDLL("libnuma.so.1")
        (library,) = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libnuma.so" in line}
        line = reported(64, "grpo", "--run", run, "--stage", "1", mount=f"mount --bind /dev/null {library}")
    else:
        check = "import ctypes, visionr1.rollout.vllm_on_cpu as v; ctypes.CDLL = lambda _: open('/nowhere'); v.require_libnuma()"
        done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True)
        line = done.stderr.strip().splitlines()[-1]
    assert "vLLM on a CPU needs libnuma" in line and "apt-get install libnuma1), or use --rollout hf" in line


def test_a_library_is_found_in_a_list_longer_than_a_pipe_holds(tmp_path: Path) -> None:
    lists = tmp_path / "ldconfig"
    lists.write_text("#!/bin/sh\necho '\tlibnuma.so.1 (libc6,x86-64) => /lib/libnuma.so.1'\nseq 200000\n")
    lists.chmod(0o755)
    command = ["tests/needs.sh", "make test", "libnuma.so.1=libnuma1", "libnowhere.so.1=libnowhere1"]
    done = subprocess.run(command, cwd=ROOT, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "make test needs libnowhere.so.1; on Debian and Ubuntu: apt-get install libnowhere1\n"


@pytest.mark.parametrize("words", [["run", "demo"], ["grpo", "--stage", "1"], ["sft"], ["coldstart"]])
def test_two_runs_in_one_directory(tmp_path: Path, words: list[str]) -> None:
    run = stage(tmp_path / "run")
    with (run / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write('{"pid": 4711, "host": "node-1", "command": "visionr1 run demo", "time": "2026-11-24T10:00:00+00:00"}')
        lock.flush()
        line = reported(64, *words, "--run", run)
    holder = "process 4711 on node-1 since 2026-11-24T10:00:00+00:00 (visionr1 run demo)"
    assert line == f"{run} is in use by {holder}; wait for it or stop it"
