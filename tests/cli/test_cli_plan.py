"""`visionr1 plan`: what it prints, what it refuses, and that a login node can run it."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from samples import step_record
from typer.testing import CliRunner, Result

from visionr1.capacity.cards import DESCRIBED
from visionr1.capacity.model import find_model_sizes
from visionr1.capacity.plan import default_fleet, plan_run
from visionr1.cli import app
from visionr1.cli_plan import screen
from visionr1.recipe import load_recipe, to_yaml
from visionr1.rundir.layout import RECIPE
from visionr1.rundir.steplog import StepLog
from visionr1.storage import open_store


def plan(*words: str) -> Result:
    return CliRunner().invoke(app, ["plan", *words], catch_exceptions=False, terminal_width=200)


def as_json(*words: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(plan(*words, "--json").stdout)
    return result


def test_a_plan_names_phases_parts_items_and_what_it_assumes() -> None:
    result = plan("vision-r1", "--price", "2.5")
    assert result.exit_code == 0
    for words in ("64 x H800", "It fits.", "that cost", "SFT", "stage 1: 4096 x 16", "stage 2: 8192 x 8", "evaluation"):
        assert words in result.stdout, words
    for words in (
        "rollout",
        "reward",
        "reference",
        "update",
        "checkpoint",
        "weight_sync",
        "KV cache",
        "master weights",
        "Assumed",
    ):
        assert words in result.stdout, words


@pytest.mark.parametrize("width", [80, 120])
def test_every_line_fits_the_screen(width: int) -> None:
    recipe = load_recipe("vision-r1", ["rollout.workers=4"])
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(screen(plan_run(recipe, find_model_sizes(recipe.model), default_fleet(recipe), price=3)))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert [line for line in lines if "…" in line] == []


def test_a_login_node_plans_without_torch() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from visionr1.cli import app; "
        "assert CliRunner().invoke(app, ['plan', 'vision-r1']).exit_code == 0; "
        "print(sorted({'torch', 'transformers', 'numpy', 'PIL', 'vllm', 'ray'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_what_does_not_fit_ends_with_1_and_names_the_changes() -> None:
    result = plan("vision-r1", "--gpus", "4xL40S")
    assert result.exit_code == 1
    assert "It does not fit: in the moment 'update' a GPU needs" in " ".join(result.stdout.split())
    assert "--gpus 8xL40S" in result.stdout
    made = as_json("vision-r1", "--gpus", "4xL40S")
    assert made["fits"] is False and made["knobs"]["stage-1"][0]["change"].startswith("--gpus")


def test_a_plan_as_json_has_the_totals() -> None:
    made = as_json("vision-r1", "--gpus", f"8x{DESCRIBED}", "--price", "2")
    assert made["fleet"]["card"]["gib"] == 80 and made["fleet"]["count"] == 8
    assert made["price"] == pytest.approx(2 * made["gpu_hours"])
    assert made["seconds"] == pytest.approx(sum(phase["seconds"] for phase in made["phases"]))
    assert {"rollout", "update"} <= made["phases"][1]["parts"].keys()


def test_lengths_and_data_change_the_plan() -> None:
    short, long = (as_json("vision-r1", "--lengths", lengths)["phases"] for lengths in ("500", "500,3000"))
    assert short[1] == long[1] and short[2]["seconds"] < long[2]["seconds"]
    small = as_json("vision-r1", "--data", "demo://digits/held-out")
    assert any("340 of them of a picture" in line for line in small["assumptions"])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--gpus", "60xH800"], "60 GPUs cannot share out the 512 prompts of a step"),
        (["--gpus", "8xV100"], "'V100' is no card that is known here"),
        (["--lengths", "1300,9000"], "9000 is not between 1 and the 8192 tokens of stage 2"),
        (["--lengths", "1,2,3"], "give one number of tokens, or one for each of the 2 stages"),
        (["--lengths", "many"], "give one number of tokens"),
        (["--set", "model.base=nobody/nothing"], "the sizes of 'nobody/nothing' are not known here"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], expected: str) -> None:
    result = plan("vision-r1", *words)
    assert result.exit_code == 64 and result.stdout == ""
    assert expected in result.stderr and len(result.stderr.splitlines()) == 1


@pytest.fixture
def small_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which NVIDIA's driver lists four L40S."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nfor gpu in 1 2 3 4; do echo 'NVIDIA L40S, 46068'; done\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def run(tmp_path: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    """`visionr1 run` on four GPUs."""
    four = ["--set", "rollout.workers=4", "--set", "sft.processes=4"]
    words = ["run", "vision-r1", "--run", str(tmp_path / "run"), *four, *overrides]
    return subprocess.run([sys.executable, "-m", "visionr1.cli", *words], capture_output=True, text=True, check=False)


@pytest.mark.usefixtures("small_gpus")
def test_a_run_that_surely_does_not_fit_is_refused_before_it_starts(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 64
    assert [line.split(" on ")[0] for line in done.stderr.splitlines()] == [
        "sft does not fit", "stage-1 does not fit", "stage-2 does not fit"
    ]  # fmt: skip
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("small_gpus")
def test_a_run_with_preflight_warn_starts_all_the_same(tmp_path: Path) -> None:
    done = run(tmp_path, "--set", "preflight=warn", "--set", "model.revision=none")
    assert "warning: stage-1 does not fit on 4 x L40S" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("model.base:")  # what is looked at next: there is no such revision


def test_a_run_that_has_begun_is_compared_with_its_plan(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    store.write_bytes(RECIPE, to_yaml(load_recipe("demo")).encode())
    result = plan("--run", str(tmp_path))
    assert result.exit_code == 64 and "no step is logged yet" in result.stderr
    log = StepLog(store, "stage-1", 0)
    for step in (1, 2, 3):
        log.append(step_record(step))
    result = plan("--run", str(tmp_path))
    assert result.exit_code == 0
    assert re.search(r"stage 1: 56 x 16, 2 steps", result.stdout)
    assert re.search(r"rollout +[0-9.]+ +4\.00 +[0-9.]+ +[0-9.]+\n", result.stdout)
    assert "Farthest from its floor: rollout" in result.stdout
    (phase,) = json.loads(plan("--run", str(tmp_path), "--json").stdout)
    assert phase["farthest"]["measured"] == 4


def test_a_recipe_or_a_run_is_planned() -> None:
    for words in ([], ["demo", "--run", "somewhere"]):
        result = plan(*words)
        assert result.exit_code == 64 and "give one of the two" in result.stderr
