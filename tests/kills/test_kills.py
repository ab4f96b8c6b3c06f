"""Ten kills in one run: no step is lost or trained twice, and it ends with the bits of the run that nothing happened to."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from proof import broken
from samples import samples
from shots import ROOT, Shot, Target

pytestmark = pytest.mark.timeout(900)

ENDS = {"sft": 6, "stage-1": 4, "stage-2": 8}
EVERY = 2
SETTINGS = {
    "coldstart": "null",
    "sft.max_steps": 6,
    "sft.epochs": 9,
    "sft.global_batch_size": 4,
    "sft.micro_batch_tokens": 256,
    "sft.checkpoint_every": EVERY,
    "data.train.limit": 4,  # so that an epoch ends with every second step: at every checkpoint and at the border of the stages
    "data.held_out": "null",
    "algorithm.prompts_per_step": 2,
    "stages": "[{max_completion_tokens: 24, group_size: 4, steps: 4}, {max_completion_tokens: 32, group_size: 2, steps: 4}]",
    "checkpoint.every": EVERY,
    "rollout.engine": "hf",
    "rollout.workers": 1,
    "rollout.temperature": 3.0,  # the shipped base is sure of itself, and equal completions teach nothing
    "reward.function": f"{Path(__file__).with_name('pay.py')}:checksum",
    "metrics.enabled": "false",
}
SHOTS = [
    Shot("sft", "launcher", "SIGKILL", "start", 0.7),
    Shot("sft", "rank", "SIGKILL", "writing", 0.3),
    Shot("sft", "torchrun", "SIGTERM", "start", 0.4),
    Shot("sft", "runner", "SIGKILL", "border"),
    Shot("stage-1", "driver", "SIGTERM", "start", 0.5),
    Shot("stage-1", "worker", "SIGKILL", "writing"),
    Shot("stage-1", "runner", "SIGTERM", "border"),
    Shot("stage-2", "largest", "oom", "steps", 0.1),
    Shot("stage-2", "runner", "SIGKILL", "committed"),
    Shot("stage-2", "driver", "SIGKILL", "orphaned", 0.05),
]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    data = samples(tmp_path_factory.mktemp("kills") / "data")
    return [f"{name}={value}" for name, value in {**SETTINGS, "sft.data.path": data}.items()]


def test_ten_kills_lose_and_repeat_nothing(settings: list[str], tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    command = [sys.executable, str(Path(__file__).with_name("go.py")), str(whole), *settings]
    undisturbed = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    target = Target(tmp_path / "shot", settings, ENDS)
    try:
        target.shoot(SHOTS)
        reported = undisturbed.communicate(timeout=300)[1]
    finally:
        undisturbed.kill()
    assert undisturbed.returncode == 0, reported
    assert [kill.shot for kill in target.kills] == SHOTS, "every moment came"
    assert broken(target, whole, EVERY) == []
    assert max(kill.repeated for kill in target.kills) > 0, "some kill hit work that was not committed"
    records = [json.loads(line) for line in (whole / "steps.jsonl").read_text().splitlines()]
    assert len({(record["loss"], record["grad_norm"]) for record in records}) == len(records), "no two steps are the same"
    assert min(record["grad_norm"] for record in records) > 1e-4, "every step trains"
