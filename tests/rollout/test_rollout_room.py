"""Room on a Ray cluster."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

SCRIPT = """
from visionr1.rollout.cluster import ray_cluster

with ray_cluster(2):
    from visionr1.errors import Stopped, Unreachable
    from visionr1.rollout import room

    print(len(room.reserve([{"CPU": 1.0}] * 2, "evaluation.workers").bundle_specs))
    room.SECONDS = 1
    try:
        room.reserve([{"CPU": 1.0, "GPU": 2.0}], "evaluation.workers")
    except Unreachable as error:
        print(error)
    try:
        room.reserve([{"GPU": 2.0}], "evaluation.workers", lambda: True)
    except Stopped as error:
        print(error)
"""


def test_what_finds_no_room_is_said_in_a_line_and_can_be_stopped() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as scratch:  # not pytest's own: the paths of Ray's sockets must be short
        environment = os.environ | {"TMPDIR": scratch}
        done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    there, none, stopped = done.stdout.splitlines()
    assert there == "2"
    assert none.startswith("evaluation.workers: Ray has had no room for {'CPU': 1.0, 'GPU': 2.0} in 1 s; it has {")
    assert stopped == "stopped while Ray made room for evaluation.workers"
