"""The Ray cluster that a stage runs on: the one that RAY_ADDRESS names, or its own on this machine."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from visionr1.errors import BadInput, Unreachable
from visionr1.preflight.machine import ANSWER_SECONDS, ray_address, ray_folder_fault, silent_ray

OBJECT_STORE_BYTES = 256 * 2**20
"""Enough for the encoded pictures of a step on one machine."""
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  only looked at


def require_shared_memory(folder: Path = SHARED_MEMORY) -> None:
    """Sees that a cluster of our own finds shared memory. Without it Ray fails, or works on the disk and says so at length.

    Raises:
        BadInput: there is none, or too little is free.
    """
    if ray_address(os.environ) is not None:
        return
    advice = f"give it {2 * OBJECT_STORE_BYTES >> 20} MiB (a container: --shm-size=512m, or an emptyDir with medium: Memory)"
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise BadInput(f"{folder}: Ray needs shared memory here, but cannot write to it; {advice}")
    free = shutil.disk_usage(folder).free
    if free < OBJECT_STORE_BYTES:
        needed = OBJECT_STORE_BYTES >> 20
        raise BadInput(f"{folder}: {free >> 20} MiB are free, and Ray needs {needed}; {advice}, or delete what is in it")


def _require_answer(address: str) -> None:
    """Ray itself waits for minutes, and ends with a traceback; in a process of its own it can be stopped.

    Raises:
        Unreachable: no cluster answers there.
    """
    asking = [sys.executable, "-m", "ray.scripts.scripts", "health-check"]
    if address.startswith("ray://"):
        return  # it is the address of a server for clients, which has no such check
    where = [] if address == "auto" else ["--address", address]
    try:
        done = subprocess.run([*asking, *where], capture_output=True, timeout=ANSWER_SECONDS)
    except subprocess.TimeoutExpired:
        raise Unreachable(silent_ray(address, f"{ANSWER_SECONDS:.0f} s")) from None
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise Unreachable(silent_ray(address, last[:200]))


@contextmanager
def ray_cluster(workers: int) -> Iterator[None]:
    """Joins the cluster that RAY_ADDRESS names, or starts one on the loopback address and ends it.

    A cluster of its own is guarded by a token made for it, so that no other user of the machine can
    submit to it. Ray reads these variables when it is imported, so nothing may import it before.

    Raises:
        BadInput: TMPDIR is too long for the sockets of a cluster of our own.
        Unreachable: the cluster that RAY_ADDRESS names does not answer.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    address = ray_address(os.environ)
    if address is not None:
        _require_answer(address)
        import ray

        ray.init()
        yield
        return
    os.environ.pop("RAY_ADDRESS", None)
    fault = ray_folder_fault(os.environ)
    if fault:
        raise BadInput(fault)
    with tempfile.TemporaryDirectory(prefix="visionr1-ray-") as folder:
        token = Path(folder) / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        import ray

        ray.init(
            address="local",
            num_cpus=max(workers, os.cpu_count() or 1),
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            _node_ip_address="127.0.0.1",
        )
        try:
            yield
        finally:
            ray.shutdown()
