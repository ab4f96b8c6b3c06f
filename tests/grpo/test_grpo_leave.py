"""How the pods of a RayCluster end: the driver first, then Ray."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from ray.job_submission import JobStatus

from visionr1.grpo.leave import is_at_work, leave, stop_drivers

DRIVER = ["/opt/venv/bin/python", "/opt/app/bin/visionr1", "grpo", "--run", "s3://b/run", "--stage", "1"]
WORKER = ["ray::Host.train"]
RAYLET = ["/opt/venv/raylet", "--raylet_socket_name=x"]


@dataclass
class Job:
    status: JobStatus
    submission_id: str | None


@dataclass
class Head:
    """A head whose driver ends a moment after it was asked to."""

    running: list[Sequence[str]] = field(default_factory=lambda: [RAYLET, DRIVER, WORKER])
    asked: list[str] = field(default_factory=list)

    def list_jobs(self) -> list[Job]:
        return [Job(JobStatus.SUCCEEDED, "old"), Job(JobStatus.RUNNING, "run-stage-1-0"), Job(JobStatus.RUNNING, None)]

    def stop_job(self, job_id: str) -> bool:
        self.asked.append(job_id)
        threading.Timer(0.2, self.running.remove, [DRIVER]).start()
        threading.Timer(0.4, self.running.remove, [WORKER]).start()
        return True


def test_the_driver_commits_before_ray_stops() -> None:
    head, stopped = Head(), []
    stop_drivers(lambda: head)
    leave(lambda: list(head.running), lambda: stopped.append(list(head.running)))
    assert head.asked == ["run-stage-1-0"], "only the job that runs, and by Ray's own stop, which may be asked twice"
    assert stopped == [[RAYLET]]


def test_a_pod_without_a_driver_ends_at_once_though_no_head_answers(capsys: pytest.CaptureFixture[str]) -> None:
    def gone() -> Head:
        raise ConnectionError("no route to host")

    stopped: list[bool] = []
    stop_drivers(gone)
    leave(lambda: [RAYLET], lambda: stopped.append(True))
    assert stopped and "the drivers cannot be asked to stop: no route to host" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "at_work"),
    [
        (DRIVER, True),
        (WORKER, True),
        (["ray::Host"], True),
        (RAYLET, False),
        ([], False),
        (["python", "/opt/app/bin/visionr1", "coldstart", "--run", "s3://b/r"], True),
        (["python", "-m", "visionr1.grpo.leave"], False),
        (["ray::IDLE"], False),
    ],
)
def test_what_is_at_work(command: list[str], at_work: bool) -> None:
    assert is_at_work(command) == at_work


@pytest.mark.parametrize(("process", "code"), [(1, 3), (2, -signal.SIGTERM)])
def test_the_first_process_of_a_container_ends_when_it_is_asked_to(process: int, code: int) -> None:
    """The kernel ignores a signal for process 1 that has no handler: an evaluation that loads a model would hold its GPU."""
    program = f"from visionr1.signals import end_on_sigterm as e; e({process}, 3); print(flush=True); import time; time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.terminate()
        assert child.wait(10) == code
