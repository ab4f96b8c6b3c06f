"""The same phases with the run directory on S3, and with transformers instead of vLLM."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from s3_proxy import Proxy

from visionr1.recipe import load_recipe, to_yaml
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.steplog import read_steps
from visionr1.storage import open_store

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


def visionr1(*arguments: str) -> None:
    command = [sys.executable, "-m", "visionr1.cli", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def settings() -> list[str]:
    return [part for setting in TINY for part in ("--set", setting)]


def test_training_with_the_run_directory_on_s3(s3_url: str, proxy: Proxy) -> None:
    """The bucket takes no weights of step 2 before the third step's rollouts: an upload inside the step would hang."""
    rollouts = "PUT /" + s3_url.removeprefix("s3://") + "/rollouts/stage-1/step-3.jsonl.zst"
    proxy.held = lambda line: "stage-1/step-2/model.safetensors" in line and rollouts not in proxy.seen
    store = open_store(s3_url)
    longer = ["stages=[{max_completion_tokens: 24, group_size: 2, steps: 4}]", "checkpoint.every=2"]
    store.write_bytes("recipe.yaml", to_yaml(load_recipe("demo", [*TINY, *longer])).encode())
    visionr1("coldstart", "--run", s3_url)
    visionr1("sft", "--run", s3_url)
    visionr1("grpo", "--run", s3_url, "--stage", "1")
    steps = [(record["phase"], record["step"]) for record in read_steps(store)]
    assert steps[-4:] == [("stage-1", step) for step in (1, 2, 3, 4)]
    checkpoints = Checkpoints(store, "stage-1")
    assert checkpoints.steps() == [2, 4]
    assert {"model.safetensors", "config.json"} <= {path.name for path in checkpoints.fetch(4).iterdir()}
    checkpoints.forget(4)
    visionr1("eval", "--run", s3_url)  # of two models, the copy of the first being gone when the second is loaded
    assert [json.loads(store.read_bytes(f"eval/{phase}.json"))["step"] for phase in ("sft", "stage-1")] == [3, 4]
    assert b"<html" in store.read_bytes("report.html")


def test_every_phase_without_vllm(tmp_path: Path) -> None:
    run = tmp_path / "run"
    visionr1("run", "demo", "--rollout", "hf", "--run", str(run), *settings())
    phases = json.loads((run / "summary.json").read_text())["phases"]
    assert all(phase["state"] == "done" for phase in phases.values())
    mismatches = [json.loads(line).get("logprob_mismatch", 0.0) for line in (run / "steps.jsonl").read_text().splitlines()]
    assert max(mismatches) < 1e-5
