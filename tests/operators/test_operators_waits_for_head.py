"""A worker waits for its head in a shell that can be ended: KubeRay's own waits out the pod's grace period, with its GPUs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kubernetes.utils.quantity import parse_quantity
from ptst_operator.children import raycluster
from test_operators_children import owner


@contextmanager
def waiting(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The command of a worker's own init container, with the head at this port."""
    run = owner(recipe={"preset": "vision-r1"}, grpo={"workersPerPod": 8})
    pod = raycluster.build(run, "x")["spec"]["workerGroupSpecs"][0]["template"]["spec"]
    shell, option, script = pod["initContainers"][-1]["command"]
    assert pod["initContainers"][-1]["image"] == pod["containers"][0]["image"]
    asked = script.replace("6379", str(port))
    assert asked != script
    worker = subprocess.Popen([shell, option, asked], env={"PATH": os.environ["PATH"], "FQ_RAY_IP": "127.0.0.1"})
    try:
        yield worker
    finally:
        worker.kill()
        worker.wait()


@pytest.fixture
def head() -> socket.socket:
    """A port where nobody listens yet."""
    made = socket.socket()
    made.bind(("127.0.0.1", 0))
    return made


def test_a_worker_waits_until_its_head_answers(head: socket.socket) -> None:
    with head, waiting(head.getsockname()[1]) as worker:
        with pytest.raises(subprocess.TimeoutExpired):
            worker.wait(1.5)
        head.listen()
        assert worker.wait(10) == 0


def test_a_worker_that_waits_ends_when_it_is_asked_to(head: socket.socket) -> None:
    with head, waiting(head.getsockname()[1]) as worker:
        children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children")
        while not children.read_text():  # it asks for the head: the shell has read its first line
            time.sleep(0.01)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(3) == 143, "it hears the signal itself: as the first process of its container, nothing else ends it"


def test_a_queue_counts_no_more_for_a_worker_that_waits() -> None:
    small = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "200m", "memory": "256Mi"}}
    run = owner(recipe={"preset": "vision-r1"}, grpo={"workersPerPod": 8, "workers": {"resources": small}})
    spec = raycluster.build(run, "x")["spec"]["workerGroupSpecs"][0]["template"]["spec"]
    (ray,), (waits,) = spec["containers"], spec["initContainers"]
    for part in small:
        for name, amount in waits["resources"][part].items():
            assert parse_quantity(amount) <= parse_quantity(ray["resources"][part][name]), f"{part}.{name}"


def test_a_user_s_own_init_containers_come_first() -> None:
    proxy = {"name": "proxy", "image": "proxy:1", "restartPolicy": "Always"}
    run = owner(recipe={"preset": "vision-r1"}, grpo={"workersPerPod": 8}, pods={"image": "t:1", "initContainers": [proxy]})
    spec = raycluster.build(run, "x")["spec"]
    worker, head = (one["template"]["spec"]["initContainers"] for one in (spec["workerGroupSpecs"][0], spec["headGroupSpec"]))
    assert [one["name"] for one in worker] == ["proxy", "head-is-up"], "a head may be behind its proxy"
    assert [one["name"] for one in head] == ["proxy"]
