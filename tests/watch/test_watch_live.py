"""`visionr1 watch`: what it says of runs that are made up, as a person in a terminal or a pipe reads it."""

import io
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer
from rich.console import Console
from samples import step_record
from typer.testing import CliRunner

from visionr1.cli import app
from visionr1.recipe import load_recipe, phases, to_yaml
from visionr1.recipe.phases import StagePhase
from visionr1.rundir.attempts import AttemptRecord, write_attempt
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.layout import RECIPE
from visionr1.rundir.steplog import StepLog
from visionr1.storage import Store, open_store
from visionr1.watch.look import View, look
from visionr1.watch.problems import BEFORE, problems
from visionr1.watch.screen import frame, sparkline, watch

STAGES = "stages=[{max_completion_tokens: 64, group_size: 4, steps: 100},{max_completion_tokens: 128, group_size: 2, steps: 100}]"
RECIPE_ = load_recipe("demo", ["name=mine", STAGES])
STAGE_1, STAGE_2 = (phase for phase in phases(RECIPE_) if isinstance(phase, StagePhase))


def record(step: int, phase: StagePhase = STAGE_1, **values: Any) -> dict[str, Any]:
    return step_record(step) | {"phase": phase.name, "stage": phase.number} | values


def steps(first: int, last: int, phase: StagePhase = STAGE_1, **values: Any) -> list[dict[str, Any]]:
    return [record(step, phase, **values) for step in range(first, last + 1)]


def make(store: Store, *records: dict[str, Any], running: StagePhase | None = None) -> Store:
    """A run directory with these records, and perhaps an attempt at a phase that runs."""
    store.write_bytes(RECIPE, to_yaml(RECIPE_).encode())
    for one in records:
        log = StepLog(store, one["phase"], one["step"] - 1)
        log.append(one)
    if running is not None:
        write_attempt(store, running.name, 0, AttemptRecord(["visionr1"], 1000.0, None))
    return store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "run"))


def text(view: View, width: int = 120) -> str:
    output = io.StringIO()
    Console(file=output, width=width).print(frame(view))
    return output.getvalue()


def test_a_frame_says_where_the_run_is_and_how_fast(store: Store) -> None:
    make(store, *steps(1, 3), *steps(101, 108, STAGE_2, reward_mean=0.75), running=STAGE_2)
    view = look(store, now=2085.0)
    assert (view.state, view.phase, view.done, view.total) == ("running", STAGE_2, 8, 100)
    assert view.tokens_per_second == pytest.approx(50)
    assert view.seconds_left == pytest.approx(920)
    reported = text(view)
    assert "mine" in reported and "✓ stage 1" in reported and "● stage 2" in reported
    assert "8/100   0:15:20 left   50 tokens/s   last step 5 s ago" in reported
    assert "0.750" in reported and "40 of 128 tokens" in reported and "▁▁▁┊████████" in reported
    assert "no problem seen" in reported


def test_a_run_that_has_only_begun_is_shown(store: Store) -> None:
    view = look(make(store), now=0.0)
    assert (view.state, view.done, view.problems) == ("waiting", 0, [])
    assert "● cold start" in text(view)


def test_a_failed_attempt_is_the_first_problem(store: Store) -> None:
    make(store, *steps(1, 3))
    write_attempt(store, STAGE_1.name, 2, AttemptRecord(["visionr1"], 1000.0, None, ended=1100.0, exit_code=1))
    view = look(store, now=1200.0)
    assert view.state == "failed"
    assert view.problems[0] == "attempt 2 of stage 1 ended with 1; see its log"


def finish(store: Store, *names: str) -> None:
    """The phases as complete as they are for the planner."""
    marks = {"coldstart": "coldstart/manifest.json", "evaluate": "eval/stage-2.json"}
    for name in names:
        if name in marks:
            store.write_bytes(marks[name], b'{"step": 200}')
        else:
            checkpoints = Checkpoints(store, name)
            step = {"sft": 1, "stage-1": 100, "stage-2": 200}[name]
            folder = checkpoints.staging(step)
            (folder / "config.json").write_text("{}")
            checkpoints.commit(step, checkpoints.publish(step, folder, ["config.json"]), {"final": True})


def test_a_run_on_a_cluster_has_no_attempts_and_runs_all_the_same(store: Store) -> None:
    make(store, *steps(1, 100), *steps(101, 104, STAGE_2))
    finish(store, "coldstart", "sft", "stage-1")
    view = look(store, now=2045.0)
    assert (view.state, view.phase, view.done) == ("running", STAGE_2, 4)
    finish(store, "stage-2", "evaluate")
    assert look(store, now=2045.0).state == "done"


def test_a_stage_that_was_added_to_a_finished_run_is_the_one_to_look_at(store: Store) -> None:
    make(store, *steps(1, 100), *steps(101, 104, STAGE_2), running=STAGE_2)
    finish(store, "coldstart", "sft", "stage-1")
    write_attempt(store, "evaluate", 0, AttemptRecord(["visionr1"], 1000.0, None, ended=1100.0, exit_code=0))
    assert look(store, now=2045.0).phase == STAGE_2


def test_the_frame_fits_a_narrow_terminal(store: Store) -> None:
    view = look(make(store, *steps(1, 90), running=STAGE_1), now=1901.0)
    assert max(len(line) for line in text(view, width=80).splitlines()) <= 80


WELL = steps(1, 60)
CASES = {
    "loss of step 60 is not finite": [*WELL[:-1], record(60, loss=None)],
    "gradient norm of step 60 is not finite": [*WELL[:-1], record(60, grad_norm=None)],
    "reward collapsed: it is 0.10 now and was 0.50": WELL[:-5] + steps(56, 60, reward_mean=0.1),
    "engine and trainer disagree by 0.080 nats": [*WELL[:-1], record(60, logprob_mismatch=0.08)],
    "truncation is high: 40% of the completions are cut": WELL[:-5] + steps(56, 60, completion_truncated_ratio=0.4),
    "zero signal: in 80% of the groups": WELL[:-5] + steps(56, 60, advantage_zero_std_ratio=0.8),
    "overthinking: length grew from 40 to 70": WELL[:-BEFORE] + steps(61 - BEFORE, 60, completion_tokens_mean=70.0),
}


@pytest.mark.parametrize("line", CASES)
def test_each_problem_is_seen_and_nothing_else(line: str) -> None:
    (found,) = problems(STAGE_1, CASES[line], running=True, now=1600.0)
    assert found.startswith(line)


QUIET = {
    "all is well": WELL,
    "much is cut, but the stage is young": steps(1, 50, completion_truncated_ratio=0.9),
    "length grows as the reward falls": WELL[:-BEFORE] + steps(61 - BEFORE, 60, completion_tokens_mean=70.0, reward_mean=0.4),
    "a reward that was never there": steps(1, 60, reward_mean=0.01),
    "no step yet": [],
}


@pytest.mark.parametrize("case", QUIET)
def test_what_is_no_problem_is_silent(case: str) -> None:
    assert problems(STAGE_1, QUIET[case], running=True, now=1600.0) == []


def test_a_run_that_stands_still_is_told_only_while_it_runs() -> None:
    long_ago = WELL[-1]["time"] + 2.5 * 3600
    assert problems(STAGE_1, WELL, True, long_ago) == [
        "no step has ended for 150 minutes",
        "the last checkpoint is 2.5 hours old",
    ]
    assert problems(STAGE_1, WELL, False, long_ago) == []


def test_sparklines_average_what_does_not_fit_and_leave_gaps() -> None:
    rising = [{"x": float(value)} for value in range(16)]
    assert sparkline(rising, "x", 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([{"x": 1.0}, {"x": None}, {"x": 3.0}], "x", 8) == "▁ █"
    assert sparkline([{"x": 1.0}] * 2, "x", 8) == "▅▅"
    assert sparkline([], "x", 8) == ""


def test_a_pipe_gets_one_frame(store: Store) -> None:
    make(store, *steps(1, 3), running=STAGE_1)
    done = CliRunner().invoke(app, ["watch", store.url])
    assert done.exit_code == 0
    assert done.stdout.count("● stage 1") == 1


def test_a_directory_that_is_no_run_is_one_line(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["watch", str(tmp_path), "--once"])
    assert done.exit_code == 64
    assert done.stderr.count("\n") == 1 and "this is not a run directory" in done.stderr


def test_a_terminal_is_kept_up_to_date_until_the_run_is_done(store: Store) -> None:
    make(store, *steps(1, 3), running=STAGE_1)
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=100)
    screen = threading.Thread(target=watch, args=(partial(look, store), console), kwargs={"once": False, "every": 0.02})
    screen.start()
    while "3/100" not in output.getvalue() and screen.is_alive():
        time.sleep(0.01)
    make(store, record(4))
    finish(store, "coldstart", "sft", "stage-1", "stage-2", "evaluate")
    screen.join(timeout=30)
    assert not screen.is_alive()
    assert "3/100" in output.getvalue() and "✓ evaluation" in output.getvalue()


def test_a_run_on_s3_looks_the_same(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3

    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {"AWS_ENDPOINT_URL_S3": f"http://{host}:{port}", "AWS_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    try:
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="runs")
        there = make(open_store("s3://runs/mine"), *steps(1, 3), running=STAGE_1)
        here = make(store, *steps(1, 3), running=STAGE_1)
        reported = [text(look(one, now=1031.0)).replace(one.url, "") for one in (here, there)]
        assert reported[0] == reported[1]
    finally:
        server.stop()
