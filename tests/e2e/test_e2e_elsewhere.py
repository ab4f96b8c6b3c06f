"""The same phases with the run directory on S3, and with transformers instead of vLLM."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

pytestmark = pytest.mark.timeout(1200)

ROOT = Path(__file__).parents[2]
TINY = [
    "coldstart.problems.limit=60",
    "sft.max_steps=3",
    "data.train.limit=24",
    "data.held_out.limit=8",
    "algorithm.prompts_per_step=4",
    "stages=[{max_completion_tokens: 24, group_size: 2, steps: 2}]",
    "checkpoint.every=1",
]


def visionr1(*arguments: str, **environment: str) -> None:
    command = [sys.executable, "-m", "visionr1.cli", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def settings() -> list[str]:
    return [part for setting in TINY for part in ("--set", setting)]


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a user of a real S3 server."""
    log = tmp_path / "moto.txt"
    with log.open("w") as output:
        server = subprocess.Popen([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"], stderr=output)
    deadline = time.monotonic() + 60
    while not (address := re.search(r"Running on (http://[\d.:]+)", log.read_text())):
        assert server.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    yield {
        "AWS_ENDPOINT_URL_S3": address[1],
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    server.kill()
    server.wait()


def test_training_with_the_run_directory_on_s3(s3: dict[str, str]) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=s3["AWS_ENDPOINT_URL_S3"],
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    client.create_bucket(Bucket="models")
    from visionr1.recipe import load_recipe, to_yaml

    client.put_object(Bucket="models", Key="runs/tiny/recipe.yaml", Body=to_yaml(load_recipe("demo", TINY)).encode())
    run = "s3://models/runs/tiny"
    visionr1("coldstart", "--run", run, **s3)
    visionr1("sft", "--run", run, **s3)
    visionr1("grpo", "--run", run, "--stage", "1", **s3)

    def read(key: str) -> bytes:
        return client.get_object(Bucket="models", Key=f"runs/tiny/{key}")["Body"].read()

    steps = [json.loads(line) for line in read("steps.jsonl").splitlines()]
    assert [(record["phase"], record["step"]) for record in steps][-2:] == [("stage-1", 1), ("stage-1", 2)]
    manifest = json.loads(read("checkpoints/stage-1/step-2/manifest.json"))
    assert {"model.safetensors", "config.json"} <= {file["path"] for file in manifest["files"]}


def test_every_phase_without_vllm(tmp_path: Path) -> None:
    run = tmp_path / "run"
    visionr1("run", "demo", "--rollout", "hf", "--run", str(run), *settings())
    phases = json.loads((run / "summary.json").read_text())["phases"]
    assert all(phase["state"] == "done" for phase in phases.values())
    mismatches = [json.loads(line).get("logprob_mismatch", 0.0) for line in (run / "steps.jsonl").read_text().splitlines()]
    assert max(mismatches) < 1e-5
