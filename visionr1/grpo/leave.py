"""How a pod of a RayCluster ends: the driver commits its step first, then Ray stops on this node.

Kubernetes runs `python -m visionr1.grpo.leave head` (or `worker`) before it ends the container. KubeRay's shell around Ray dies
of SIGTERM and tells nobody, and all other processes of the container are killed with it. Without this, no driver could commit.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import psutil

_LOOK_SECONDS: Final = 0.5
_LEAST_PARTS: Final = 3
"""Interpreter, program and command: `python /opt/app/bin/visionr1 grpo ...`."""
_RUNNING: Final = ("PENDING", "RUNNING")
_DRIVERS: Final = ("grpo", "coldstart")


class Jobs(Protocol):
    """The part of Ray's client for jobs that is needed."""

    def list_jobs(self) -> Iterable[Any]:
        """All jobs of the cluster."""

    def stop_job(self, job_id: str) -> bool:
        """Asks a job's driver to end. A second call changes nothing, where a second signal would end it in its step."""


def stop_drivers(jobs: Callable[[], Jobs]) -> None:
    """Asks all drivers to commit and end.

    Only the head does this. Ray waits for the processes of a job that it stops, and takes one that nobody has reaped for one that
    runs. After the loss of one worker, that would keep the other GPUs for the whole time that a driver may take to stop.

    Args:
        jobs: connects to the head.
    """
    try:
        client = jobs()
        for job in client.list_jobs():
            if job.submission_id and job.status in _RUNNING:
                client.stop_job(job.submission_id)
    except (OSError, RuntimeError) as error:  # no head any more: then its drivers and workers end by themselves
        print(f"the drivers cannot be asked to stop: {error}", file=sys.stderr, flush=True)


def leave(processes: Callable[[], Iterable[Sequence[str]]], stop_ray: Callable[[], object]) -> None:
    """Waits until nothing of a driver is left on this node, and stops Ray.

    It waits without a limit of its own: Kubernetes ends it with the container when the grace period is over.

    Args:
        processes: command lines on this node.
    """
    while any(is_at_work(command) for command in processes()):
        time.sleep(_LOOK_SECONDS)
    stop_ray()


def is_at_work(command: Sequence[str]) -> bool:
    """Whether a command line is that of a driver, or of a worker that one has."""
    if command and command[0].startswith("ray::Host"):
        return True
    return len(command) >= _LEAST_PARTS and Path(command[1]).name == "visionr1" and command[2] in _DRIVERS


def _jobs() -> Jobs:
    from ray.job_submission import JobSubmissionClient

    head = os.environ.get("FQ_RAY_IP") or "127.0.0.1"  # KubeRay sets it in every pod
    client: Jobs = JobSubmissionClient(f"http://{f'[{head}]' if ':' in head else head}:8265")
    return client


def _processes() -> list[list[str]]:
    return [one.info["cmdline"] or [] for one in psutil.process_iter(["cmdline"])]


def _stop_ray() -> None:
    subprocess.run([sys.executable, "-m", "ray.scripts.scripts", "stop", "--force"], check=False)


if __name__ == "__main__":
    if sys.argv[1:] == ["head"]:
        stop_drivers(_jobs)
    leave(_processes, _stop_ray)
