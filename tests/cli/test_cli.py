"""The command line: what a newcomer sees, and that no mistake ends in a traceback."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner, Result

from visionr1.cli import _quick, app
from visionr1.errors import Stopped
from visionr1.pipeline import local
from visionr1.recipe import Recipe, load_recipe, parse_recipe, phases, preset_names, to_yaml
from visionr1.storage import StorageError


def visionr1(*words: str) -> Result:
    return CliRunner().invoke(app, list(words), catch_exceptions=False, terminal_width=200)


COMMANDS = [
    "demo",
    "run",
    "plan",
    "report",
    "watch",
    "grade",
    "eval",
    "coldstart",
    "sft",
    "grpo",
    "recipe show",
    "recipe check",
    "recipe presets",
    "recipe schema",
    "data check",
]


def test_help_names_every_command() -> None:
    shown = visionr1("--help").output
    assert all(command.split()[0] in shown for command in COMMANDS)
    assert shown.index("│ demo ") < shown.index("│ coldstart ") < shown.index("│ recipe ")


@pytest.mark.parametrize("words", COMMANDS)
def test_help_explains_every_word(words: str) -> None:
    assert visionr1(*words.split(), "--help").exit_code == 0
    command: Any = typer.main.get_command(app)
    for word in words.split():
        command = command.commands[word]
    assert len(command.help.split()) > 5
    assert [parameter.name for parameter in command.params if not parameter.help] == []


def test_no_words_give_help() -> None:
    assert "Usage:" in visionr1().output


def test_a_bad_recipe_is_named_line_by_line() -> None:
    result = visionr1("recipe", "check", "demo", "--set", "seed=-1", "--set", "sft.epochs=0")
    assert result.exit_code == 64
    assert result.stderr.splitlines() == [
        "--set seed=-1: seed: -1 is too small; it must be at least 0",
        "--set sft.epochs=0: sft.epochs: 0 is too small; it must be larger than 0.0",
    ]


def test_a_good_recipe_with_a_warning() -> None:
    result = visionr1("recipe", "check", "vision-r1", "--set", "rollout.top_p=0.9")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "vision-r1: good; SFT > stage 1 > stage 2 > evaluation",
        "SFT: 2 epochs in steps of 32 samples",
        "stage 1: 100 steps of 512 problems, 51200 in all, 16 completions each; 100 updates",
        "stage 2: 100 steps of 512 problems, 51200 in all, 8 completions each; 100 updates",
    ]
    assert result.stderr.startswith("note: rollout.top_p: 0.9 biases")


def test_show_prints_a_recipe_that_loads() -> None:
    shown = visionr1("recipe", "show", "demo", "--set", "stages.0.steps=3").stdout
    assert parse_recipe(shown, "shown") == load_recipe("demo", ["stages.0.steps=3"])


def test_presets_are_listed_and_printed_with_their_comments() -> None:
    listed = visionr1("recipe", "presets").stdout
    assert all(name in listed for name in preset_names())
    assert "# published" in visionr1("recipe", "presets", "vision-r1").stdout
    unknown = visionr1("recipe", "presets", "visionr1")
    assert (unknown.exit_code, unknown.stderr.startswith("visionr1: no such preset; did you mean the preset vision-r1?")) == (
        64,
        True,
    )


def test_schema_is_json() -> None:
    assert json.loads(visionr1("recipe", "schema").stdout)["properties"]["preset"]["enum"] == preset_names()


def test_run_needs_a_recipe_or_a_run(tmp_path: Path) -> None:
    assert (visionr1("run").exit_code, visionr1("run").stderr) == (
        64,
        "no recipe and no run: give a recipe to start (visionr1 run RECIPE), or a run to continue (visionr1 run --run DIR)\n",
    )
    result = visionr1("run", "--run", str(tmp_path))
    assert result.exit_code == 64
    assert (
        result.stderr == f"{tmp_path}: there is no recipe.yaml, so this is not a run directory; start a run with visionr1 run\n"
    )


@pytest.mark.parametrize("command", ["coldstart", "report", "sft", "eval"])
def test_a_directory_that_is_no_run(command: str, tmp_path: Path) -> None:
    words = [command, str(tmp_path)] if command == "report" else [command, "--run", str(tmp_path)]
    result = visionr1(*words)
    assert (result.exit_code, "no recipe.yaml" in result.stderr) == (64, True)


def test_eval_wants_a_model_or_a_run() -> None:
    for words in (["eval"], ["eval", "model", "--run", "x"]):
        assert visionr1(*words).exit_code == 64
        assert visionr1(*words).stderr.startswith("give one of the two: a model to score")


def ran(monkeypatch: pytest.MonkeyPatch, code: int = 3) -> list[tuple[Recipe, str]]:
    """Replace the runner, which has tests of its own, by a note of what it was given."""
    calls: list[tuple[Recipe, str]] = []

    def note(recipe: Recipe, run_dir: str, console: object) -> int:
        calls.append((recipe, run_dir))
        return code

    monkeypatch.setattr(local, "run_local", note)
    return calls


def test_run_takes_presets_overrides_and_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = ran(monkeypatch)
    result = visionr1("run", "demo", "--set", "stages.0.steps=3", "--rollout", "hf")
    ((recipe, run_dir),) = calls
    assert (result.exit_code, run_dir) == (3, "runs/demo")
    assert (recipe.stages[0].steps, recipe.rollout.engine) == (3, "hf")
    assert result.stderr.endswith("demo in runs/demo: cold start > SFT > stage 1 > stage 2 > stage 3 > evaluation\n")


def test_a_broken_reward_file_ends_a_run_before_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = ran(monkeypatch)
    path = tmp_path / "mine.py"
    path.write_text("def score(rows):\n    return [{'overall': float('nan'), 'format': 1, 'accuracy': 1}] * len(rows)\n")
    result = visionr1("run", "demo", "--run", str(tmp_path / "run"), "--set", f"reward.function={path}:score")
    assert result.exit_code == 64
    assert result.stderr.endswith(f"reward.function {path}:score: row 0: 'overall' is nan, not a finite number\n")
    assert calls == [] and not (tmp_path / "run").exists()


def test_run_goes_on_with_a_run_and_may_add_a_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = ran(monkeypatch)
    (tmp_path / "recipe.yaml").write_text(to_yaml(load_recipe("demo", ["seed=5"])))
    visionr1("run", "--run", str(tmp_path), "--set", "stages.2.steps=99")
    ((recipe, run_dir),) = calls
    assert (recipe.seed, recipe.stages[2].steps, run_dir) == (5, 99, str(tmp_path))


@pytest.mark.parametrize("variant", ["ptst", "zero", "long", "ci"])
def test_demo_runs_each_variant(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = ran(monkeypatch)
    visionr1("demo", "--variant", variant, "--seed", "9")
    visionr1("demo", "--variant", variant, "--quick", "--rollout", "hf", "--run", "x")
    (full, full_dir), (quick, quick_dir) = calls
    name = "demo" if variant == "ptst" else f"demo-{variant}"
    assert (full, full_dir) == (load_recipe(name, ["seed=9"]), f"runs/{name}")
    assert (quick.name, quick.rollout.engine, quick_dir) == (f"{name}-quick", "hf", "x")
    assert [phase.name for phase in phases(quick)] == [phase.name for phase in phases(full)]
    assert sum(stage.steps for stage in quick.stages) <= sum(stage.steps for stage in full.stages) // 3


@pytest.mark.parametrize("name", ["demo", "demo-zero", "demo-long", "demo-ci"])
def test_quick_recipes_are_valid(name: str) -> None:
    quick = _quick(load_recipe(name))
    assert parse_recipe(to_yaml(quick), "quick") == quick


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (Stopped("stopped after step 3"), 3, "stopped after step 3\n"),
        (StorageError("s3://b/r: cannot be reached; check the network"), 1, "s3://b/r: cannot be reached; check the network\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_what_a_person_can_act_on_is_one_line(
    error: BaseException, code: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise error

    monkeypatch.setattr(local, "run_local", fail)
    result = visionr1("run", "demo")
    assert (result.exit_code, result.stderr.splitlines(keepends=True)[-1]) == (code, message)


def test_grade_prints_a_line_for_each_response(tmp_path: Path) -> None:
    file = tmp_path / "responses.jsonl"
    right = {"response": "<think>1 + 1</think><answer>Final Answer: 2</answer>", "answer": "2"}
    file.write_text("\n".join([json.dumps(right), json.dumps(right | {"answer": "3"}), "no json"]))
    result = visionr1("grade", str(file))
    assert [json.loads(line)["overall"] for line in result.stdout.splitlines()] == [1.0, 0.0]
    assert result.exit_code == 1, "a line could not be read"
    assert "2 graded: reward 0.500, format 1.000, accuracy 0.500; 1 lines could not be read" in result.stderr
    assert visionr1("grade", str(tmp_path / "none.jsonl")).exit_code == 64
    assert [json.loads(line)["rule"] for line in result.stdout.splitlines()] == ["spelling", "number"]
    printed = visionr1("grade", str(file), "--explain").stdout
    assert printed.startswith("line 1: right (rule: spelling)\n  reward   1 = format 1, accuracy 1\n")
    assert "line 2: wrong answer (rule: number)\n" in printed and printed.count("  read as  ") == 4


def test_data_check_names_bad_rows(tmp_path: Path) -> None:
    file = tmp_path / "problems.jsonl"
    rows = [{"problem": "1 + 1?", "answer": "2", "images": []}, {"problem": "?", "answer": "", "images": []}]
    file.write_text("\n".join(json.dumps(row) for row in rows))
    result = visionr1("data", "check", str(file), "--json")
    assert result.exit_code == 1
    checked = json.loads(result.stdout)
    assert (checked["rows"], checked["good"], checked["counts"]) == (2, [0], {"answer missing": 1})
    assert "1 of 2 rows are good" in visionr1("data", "check", str(file)).stdout
    assert visionr1("data", "check", str(tmp_path / "none.jsonl")).exit_code == 64
    assert visionr1("data", "check", str(file), "--limit", "1").exit_code == 0


def test_the_demo_s_own_data_is_good() -> None:
    result = visionr1(
        "data", "check", "--recipe", "demo", "--set", "data.train.limit=20", "--set", "data.held_out.limit=20", "--json"
    )
    assert result.exit_code == 0
    assert [json.loads(line)["path"] for line in result.stdout.splitlines()] == ["demo://digits/train", "demo://digits/held-out"]


def test_report_of_a_run_that_has_not_begun(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(to_yaml(load_recipe("demo")))
    result = visionr1("report", str(tmp_path))
    assert result.exit_code == 0 and "stage 1" in result.stdout
    assert (tmp_path / "report.html").exists() and (tmp_path / "summary.json").exists()


def test_coldstart_makes_data_with_the_scripted_teacher(tmp_path: Path) -> None:
    recipe = load_recipe("demo", ["coldstart.problems.limit=12"])
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe))
    for _ in range(2):
        assert visionr1("coldstart", "--run", str(tmp_path)).exit_code == 0, "a second time there is nothing left to do"
    rows = (tmp_path / "coldstart/data.jsonl").read_text().splitlines()
    assert 6 <= len(rows) <= 12
    assert json.loads((tmp_path / "coldstart/report.json").read_text())["problems"] == 12


def test_the_module_runs_as_a_program_and_exits_with_the_code() -> None:
    root = Path(__file__).parents[2]
    words = [sys.executable, "-m", "visionr1.cli", "recipe", "show", "nothing"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=root, env={**os.environ, "PYTHONPATH": str(root)})
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr.startswith("nothing: no such preset; presets: ci, demo,")
    assert "Traceback" not in done.stderr


def test_a_library_that_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    # The module that is imported below takes the place of this one in the package, and would stay there.
    monkeypatch.setattr("visionr1.data", importlib.import_module("visionr1.data"))
    for name in [name for name in sys.modules if name.startswith(("visionr1.data", "PIL"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "PIL", None)
    result = visionr1("data", "check", "demo://digits/train")
    assert result.exit_code == 64
    assert result.stderr.startswith("PIL is not installed, and this needs it: visionr1-ptst[data]")


def test_presets_printed_are_a_start_for_one_s_own(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(visionr1("recipe", "presets", "zero").stdout)
    assert yaml.safe_load(mine.read_text())["preset"] == "vision-r1"
    assert visionr1("recipe", "check", str(mine)).exit_code == 0
