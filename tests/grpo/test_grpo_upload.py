"""A worker's files go to the bucket by a Ray task on its machine, and its failure comes back as what it was."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from visionr1.rundir.checkpoints import Checkpoints
from visionr1.storage import open_store

ROOT = Path(__file__).parents[2]
DRIVER = """
import sys
from visionr1.rollout.cluster import ray_cluster
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.storage import StorageError, open_store

with ray_cluster(1):
    from visionr1.grpo.crew import _results
    from visionr1.grpo.upload import upload

    checkpoints = Checkpoints(open_store(sys.argv[1]), "stage-1")
    folder = checkpoints.staging(2)
    (folder / "model.safetensors").write_bytes(b"weights")
    entries = checkpoints.publish(2, folder, ["model.safetensors"])
    _results([upload.options(num_cpus=0).remote(sys.argv[1], 0, "stage-1", 2, entries)])
    checkpoints.commit(2, entries, {})
    try:
        _results([upload.options(num_cpus=0).remote("s3://no-such-bucket-anywhere/run", 0, "stage-1", 2, [])])
        _results([upload.options(num_cpus=0).remote(sys.argv[1], 0, "stage-1", 3, entries)])
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
"""


def test_a_ray_task_uploads_what_a_worker_wrote(s3_url: str) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as scratch:  # not pytest's own: the paths of Ray's sockets must be short
        command = [sys.executable, "-c", DRIVER, s3_url]
        environment = os.environ | {"TMPDIR": scratch}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("NotFound: ") and "step-3/model.safetensors: not found" in done.stdout
    checkpoints = Checkpoints(open_store(s3_url), "stage-1")
    assert (checkpoints.fetch(2) / "model.safetensors").read_bytes() == b"weights"
