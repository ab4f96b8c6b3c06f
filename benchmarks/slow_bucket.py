"""What a slow bucket costs a step: saving inside the step against saving behind it, on the same throttled S3 server.

    python benchmarks/slow_bucket.py [--step 0.5] [--mib 12] [--mib-per-second 3] [--every 4] [--steps 16]

A stage's real `Saving` and `Checkpoints`, files of `--mib` MiB a checkpoint, steps that sleep as training on a GPU leaves this
process idle. The server is moto behind the tests' proxy. Prints JSON, then a table.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Collection
from pathlib import Path

import boto3

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from s3_proxy import Proxy

from visionr1.engine.saving import Parts, Saving
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.storage import Store, open_store


def serve(log: Path) -> tuple[subprocess.Popen[bytes], str]:
    with log.open("w") as output:
        server = subprocess.Popen([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"], stderr=output)
    while not (address := re.search(r"Running on (http://[\d.:]+)", log.read_text())):
        if server.poll() is not None:
            sys.exit(log.read_text())
        time.sleep(0.05)
    return server, address[1]


class Watched(Checkpoints):
    """Remembers when each commit began, and when it was through with the deletion of old checkpoints."""

    def __init__(self, store: Store, phase: str) -> None:
        super().__init__(store, phase)
        self.begun: list[float] = []
        self.ended: list[float] = []

    def retain(self, keep: Collection[int]) -> None:
        super().retain(keep)
        self.ended.append(time.monotonic())


def train(url: str, arguments: argparse.Namespace, *, blocking: bool) -> dict[str, float]:
    """Seconds of the steps of a stage that saves to `url`."""
    checkpoints = Watched(open_store(url), "stage-1")

    def upload(step: int, parts: Parts) -> None:
        for part in parts:
            checkpoints.upload(step, part)

    saving = Saving(checkpoints, upload, lambda steps: steps[-2:], lambda step, seconds: None)
    weights = os.urandom(arguments.mib << 20)
    seconds, waits = [], [0.0]
    began = time.monotonic()
    for step in range(1, arguments.steps + 1):
        begun = time.monotonic()
        time.sleep(arguments.step)
        saving.check()
        if step % arguments.every == 0:
            due = time.monotonic()
            saving.begin(step)
            waits.append(time.monotonic() - due)
            folder = checkpoints.folder(step)
            (folder / "model.safetensors").write_bytes(weights)
            checkpoints.begun.append(time.monotonic())
            saving.commit(step, [checkpoints.publish(step, folder, ["model.safetensors"])], {}, wait=blocking)
        seconds.append(time.monotonic() - begun)
    trained = time.monotonic() - began
    saving.begin(arguments.steps + 1)  # the stage's end waits for the last commit
    uploads = [end - begin for begin, end in zip(checkpoints.begun, checkpoints.ended, strict=True)]
    return {
        "mean_step_seconds": sum(seconds) / len(seconds),
        "longest_step_seconds": max(seconds),
        "longest_stall_seconds": max(seconds) - arguments.step,
        "longest_wait_seconds": max(waits),
        "upload_seconds": max(uploads),
        "stage_seconds": time.monotonic() - began,
        "wait_at_the_end_seconds": time.monotonic() - began - trained,
        "committed": len(uploads),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step", type=float, default=0.5, help="seconds that a step trains")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--every", type=int, default=4, help="steps from checkpoint to checkpoint")
    parser.add_argument("--mib", type=int, default=12, help="size of a checkpoint")
    parser.add_argument("--mib-per-second", type=float, nargs="+", default=[8.0, 3.0], help="what the bucket takes")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="visionr1-bench-") as folder:
        tempfile.tempdir = folder
        server, address = serve(Path(folder) / "moto.txt")
        os.environ |= {
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_S3": address,
        }
        bucket = f"bench-{uuid.uuid4().hex}"
        boto3.client("s3").create_bucket(Bucket=bucket)
        rows = []
        try:
            for rate in arguments.mib_per_second:
                proxy = Proxy(address, rate * (1 << 20))
                os.environ["AWS_ENDPOINT_URL_S3"] = proxy.url
                for name, blocking in (("in the step", True), ("behind the steps", False)):
                    measured = train(f"s3://{bucket}/{uuid.uuid4().hex}", arguments, blocking=blocking)
                    allowed = max(0.0, measured["upload_seconds"] - arguments.every * arguments.step)
                    rows.append({"mib_per_second": rate, "uploads": name, **measured, "queue_allows_seconds": allowed})
                proxy.close()
        finally:
            server.kill()
            server.wait()
    print(json.dumps({"arguments": vars(arguments), "rows": rows}))
    columns = {
        "mean step": "mean_step_seconds",
        "longest stall": "longest_stall_seconds",
        "of it waiting for the upload before": "longest_wait_seconds",
        "the queue allows": "queue_allows_seconds",
        "upload": "upload_seconds",
        "whole stage": "stage_seconds",
    }
    print(f"| bucket | uploads | {' | '.join(columns)} |\n{'|---' * (len(columns) + 2)}|")
    for row in rows:
        shown = " | ".join(f"{row[key]:.2f} s" for key in columns.values())
        print(f"| {row['mib_per_second']:g} MiB/s | {row['uploads']} | {shown} |")


if __name__ == "__main__":
    main()
