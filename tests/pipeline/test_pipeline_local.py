"""The local runner with real processes, real checkpoints and real signals; only the training is fake."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import psutil
import pytest
from fake_run import ALL_PHASES, RECIPE, fake_commands
from rich.console import Console

from visionr1.errors import BadInput
from visionr1.pipeline.local import run_local
from visionr1.pipeline.planner import Retry
from visionr1.pipeline.processes import _stopped_with, marked, tree_bytes
from visionr1.recipe import Recipe, parse_recipe, to_yaml
from visionr1.rundir.attempts import ATTEMPT, AttemptRecord, attempts, write_attempt
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.signals import StopFlag
from visionr1.storage import open_store

ORDER = ["coldstart", "sft", "stage-1", "stage-2", "evaluate"]
FAST = Retry(max_attempts=2, first_wait=0.05, longest_wait=0.05)


class Run:
    """A run directory, what the runner reported about it, and its attempts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = open_store(str(folder))
        self.reported = ""

    def go(
        self, recipe: Recipe = RECIPE, seconds: float = 0.0, grace: float = 20.0, retry: Retry = FAST, **behaviours: list[str]
    ) -> int:
        named = {name.replace("_", "-"): list(behaviour) for name, behaviour in behaviours.items()}
        output = StringIO()
        try:
            return run_local(
                recipe,
                str(self.folder),
                command_for=fake_commands(seconds, named),
                retry=retry,
                grace_seconds=grace,
                console=Console(file=output, width=300),
            )
        finally:
            self.reported = output.getvalue()

    def codes(self, phase: str) -> list[int | None]:
        return [record.exit_code for record in attempts(self.store, phase).values()]

    def left_behind_is_gone(self) -> bool:
        pid = int((self.folder / "left.pid").read_text())
        # Where nothing reaps orphans, what was killed stays as a zombie.
        return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE

    def steps(self, phase: str) -> list[int]:
        return Checkpoints(self.store, phase).steps()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr("visionr1.pipeline.local._LOOK_SECONDS", 0.02)
    monkeypatch.setattr("visionr1.pipeline.local._SAMPLE_SECONDS", 0.02)
    return Run(tmp_path / "run")


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def test_all_phases_in_order_each_once(run: Run) -> None:
    assert run.go(ALL_PHASES) == 0
    records = {name: attempts(run.store, name) for name in ORDER}
    starts = [records[name][0].started for name in ORDER]
    ends = [records[name][0].ended or 0 for name in ORDER]
    assert starts == sorted(starts) and all(end <= start for end, start in zip(ends, starts[1:], strict=False))
    assert [run.codes(name) for name in ORDER] == [[0]] * 5
    assert {name: max(run.steps(name)) for name in ("sft", "stage-1", "stage-2")} == {"sft": 2, "stage-1": 4, "stage-2": 7}
    assert (records["stage-2"][0].from_step, records["stage-2"][0].to_step) == (None, 7)
    assert all((record.peak_bytes or 0) > 1_000_000 for record in (records["sft"][0], records["stage-1"][0]))
    assert parse_recipe((run.folder / "recipe.yaml").read_text(), "recipe.yaml") == ALL_PHASES
    assert (run.folder / "phases/stage-1/attempt-0/log.txt").read_text() == "stage-1 begins as work\n"
    assert "stage 2: done in" in run.reported


def test_a_finished_run_starts_nothing(run: Run) -> None:
    assert run.go() == 0
    assert run.go() == 0
    assert [run.codes(name) for name in ("sft", "stage-1")] == [[0], [0]]


def test_a_crash_is_retried_from_the_last_checkpoint(run: Run) -> None:
    wait = Retry(first_wait=3.0)  # long enough to be announced on a busy machine
    assert run.go(retry=wait, sft=["crash"], stage_1=["crash halfway"]) == 0
    first, second = attempts(run.store, "stage-1").values()
    assert (first.exit_code, first.from_step, first.to_step) == (1, None, 2)
    assert (second.exit_code, second.from_step, second.to_step) == (0, 2, 4)
    assert run.codes("sft") == [1, 0]
    assert "sft, attempt 0, ended with exit code 1: Traceback: it broke\nthe last lines of " in run.reported
    assert "  Traceback: it broke\n" in run.reported
    assert re.search(r"^sft is tried again in [0-3] s, from its last committed checkpoint$", run.reported, re.MULTILINE)
    assert "stage-1 is tried again" not in run.reported, "after a checkpoint there is nothing to wait for"


def test_too_many_failures_end_the_run_and_a_new_start_goes_on(run: Run) -> None:
    assert run.go(sft=["crash", "end early"]) == 1
    assert (
        "sft failed: 2 attempts failed without a new checkpoint; the last one ended without its final checkpoint" in run.reported
    )
    assert run.codes("sft") == [1, 0]
    assert run.go() == 0, "a person who starts it again wants it tried again"
    assert run.codes("sft") == [1, 0, 0] and run.codes("stage-1") == [0]


def test_bad_input_is_not_retried(run: Run) -> None:
    assert run.go(stage_1=["bad input"]) == 64
    assert run.codes("stage-1") == [64]
    assert "  data.train: no such file\n" in run.reported


def test_the_final_checkpoint_counts_not_the_exit_code(run: Run) -> None:
    assert run.go(sft=["fail at the very end"]) == 0
    assert run.codes("sft") == [1] and run.codes("stage-1") == [0]


def test_a_phase_that_was_stopped_by_others_stops_the_run(run: Run) -> None:
    assert run.go(sft=["stop itself"]) == 3
    assert run.steps("sft") == [1] and run.codes("stage-1") == []
    assert "stopped in sft; run the same command to continue from its last checkpoint" in run.reported
    assert run.go() == 0
    assert attempts(run.store, "sft")[1].from_step == 1


def test_what_a_phase_leaves_running_is_ended(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visionr1.pipeline.local._LEFT_BEHIND_SECONDS", 0.3)
    assert run.go(sft=["leave a process"]) == 0
    assert run.left_behind_is_gone()


def test_what_a_killed_phase_leaves_is_ended_at_once(run: Run) -> None:
    """Ray's and torchrun's processes do not end by themselves when their driver is killed: waiting for them loses time."""
    assert run.go(sft=["be killed"]) == 0
    first, second = attempts(run.store, "sft").values()
    assert first.exit_code == -9 and run.left_behind_is_gone()
    assert first.ended is not None and first.ended - first.started < 9, "_LEFT_BEHIND_SECONDS is 10"
    assert second.exit_code == 0


def test_stages_can_be_added_later(run: Run) -> None:
    assert run.go(ALL_PHASES) == 0
    longer = ALL_PHASES.model_copy(update={"stages": (*ALL_PHASES.stages, ALL_PHASES.stages[1])})
    assert run.go(longer) == 0
    assert [run.codes(name) for name in (*ORDER[:4], "stage-3", "evaluate")] == [[0], [0], [0], [0], [0], [0, 0]]
    assert run.steps("stage-3") == [8, 9, 10]
    assert json.loads((run.folder / "eval/stage-3.json").read_text())["step"] == 10


def test_another_recipe_is_refused(run: Run) -> None:
    assert run.go() == 0
    before = (run.folder / "recipe.yaml").read_text()
    other = RECIPE.model_copy(update={"seed": 7})
    with pytest.raises(BadInput, match=r"is a run of another recipe; .*\n  seed: 1 in .*, 7 in this recipe; sft has used it$"):
        run.go(other)
    assert (run.folder / "recipe.yaml").read_text() == before


def test_a_remote_directory_is_refused() -> None:
    with pytest.raises(BadInput, match="^s3://bucket/run: a run on this machine needs a local directory"):
        run_local(RECIPE, "s3://bucket/run")


def test_a_locked_run_is_refused(run: Run) -> None:
    first = start_runner(run, 1.0)
    until(lambda: run.steps("stage-1"))
    with pytest.raises(BadInput, match="in use"):
        run.go()
    first.send_signal(signal.SIGTERM)
    assert first.wait(20) == 3


def start_runner(run: Run, seconds: float, grace: float = 20.0, *behaviours: str) -> subprocess.Popen[str]:
    script = Path(__file__).with_name("fake_run.py")
    words = [sys.executable, str(script), str(run.folder), str(seconds), str(grace), *behaviours]
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True)


def reported(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_commits_and_can_be_resumed(run: Run, number: signal.Signals) -> None:
    runner = start_runner(run, 1.0)
    until(lambda: run.steps("stage-1"))
    runner.send_signal(number)
    assert runner.wait(20) == 3
    text = reported(runner)
    assert "stopping: stage-1 commits a checkpoint first (interrupt again to end it at once)" in text
    assert "stopped in stage-1; run the same command to continue from its last checkpoint" in text
    assert "Traceback" not in text
    stopped_at = max(run.steps("stage-1"))
    assert run.codes("stage-1") == [3] and stopped_at < 4
    assert run.go() == 0
    assert attempts(run.store, "stage-1")[1].from_step == stopped_at
    assert run.steps("stage-1") == [1, 2, 3, 4]


def test_a_second_ctrl_c_ends_at_once(run: Run) -> None:
    runner = start_runner(run, 0.15, 60.0, "stage-1=stubborn")
    until(lambda: run.steps("stage-1"))
    runner.send_signal(signal.SIGINT)
    assert runner.stderr is not None
    assert any("stopping: stage-1" in line for line in runner.stderr), "the first is heard before the second is sent"
    runner.send_signal(signal.SIGINT)
    assert runner.wait(10) == 130
    assert run.codes("stage-1") == [-9]
    assert run.go() == 0


def test_a_phase_that_does_not_stop_is_ended_after_its_grace_time(run: Run) -> None:
    runner = start_runner(run, 0.4, 0.6, "stage-1=stubborn")
    until(lambda: run.steps("stage-1"))
    runner.send_signal(signal.SIGTERM)
    assert runner.wait(10) == 3
    text = reported(runner)
    assert "stage-1 did not stop within 1 s and is killed" in text
    assert "the last lines of" not in text, "a log explains failures, not stops"
    assert run.codes("stage-1") == [-9]


def test_a_killed_runner_leaves_nothing_and_its_run_goes_on(run: Run) -> None:
    runner = start_runner(run, 1.0)
    until(lambda: run.steps("stage-1"))
    folder = run.folder / "phases/stage-1/attempt-0"
    assert marked(folder)
    runner.send_signal(signal.SIGKILL)
    runner.wait(10)
    until(lambda: not marked(folder), 5)
    stopped_at = max(run.steps("stage-1"))
    assert stopped_at < 4, "its phase stopped after a checkpoint"
    assert run.go() == 0
    first, second = attempts(run.store, "stage-1").values()
    assert first.ended is not None and (first.exit_code, first.to_step) == (None, stopped_at)
    assert second.from_step == stopped_at and second.started >= first.ended
    assert run.codes("sft") == [0], "finished phases are not run again"


def test_an_orphan_that_will_not_stop_is_ended_before_the_run_goes_on(run: Run) -> None:
    runner = start_runner(run, 0.5, 20.0, "stage-1=stubborn")
    until(lambda: run.steps("stage-1"))
    runner.send_signal(signal.SIGKILL)
    runner.wait(10)
    folder = run.folder / "phases/stage-1/attempt-0"
    assert marked(folder)
    assert run.go(grace=0.1) == 0
    assert "waiting until stage-1 of the previous run has committed a checkpoint and ended" in run.reported
    assert not marked(folder)


def test_what_an_orphan_that_was_killed_left_is_not_waited_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runner and phase were killed both: nobody has asked the ranks below to stop, so they would train on unwatched."""
    monkeypatch.setattr("visionr1.pipeline.local._LEFT_BEHIND_SECONDS", 0.3)
    write_attempt(run.store, "sft", 0, AttemptRecord(["visionr1", "sft"], time.time(), None))
    folder = (run.folder / "phases/sft/attempt-0").resolve()
    left = subprocess.Popen(["sleep", "600"], env={**os.environ, ATTEMPT: str(folder)})
    begun = time.monotonic()
    assert run.go(grace=60.0) == 0
    assert time.monotonic() - begun < 50
    assert left.wait(10) == -signal.SIGKILL
    assert run.codes("sft") == [None, 0]


def test_the_memory_of_a_whole_tree_is_measured() -> None:
    block = "import subprocess, sys, time; data = b'x' * 50_000_000"
    child = f"{block}; time.sleep(60)"
    parent = f"{block}; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", parent], start_new_session=True)
    try:
        until(lambda: tree_bytes(process.pid) > 100_000_000)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert tree_bytes(process.pid) == 0


def test_the_recipe_of_a_run_can_be_written_by_hand(run: Run) -> None:
    run.folder.mkdir()
    (run.folder / "recipe.yaml").write_text("# mine\n" + to_yaml(RECIPE))
    assert run.go() == 0
    assert (run.folder / "recipe.yaml").read_text().startswith("# mine")


def test_a_phase_whose_runner_died_while_it_was_started_does_not_begin() -> None:
    """The runner's own handler, which the child has until it is another program, would swallow the request."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        child = subprocess.Popen(["true"], preexec_fn=_stopped_with(-1))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert child.wait(10) == -signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_just_when_a_phase_begins_to_listen_is_heard(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    install = signal.signal

    def install_and_be_told(which: signal.Signals, handler: object) -> object:
        before = install(which, handler)  # type: ignore[arg-type]
        if which == number and isinstance(getattr(handler, "__self__", None), StopFlag):
            monkeypatch.setattr(signal, "signal", install)
            os.kill(os.getpid(), number)
        return before

    monkeypatch.setattr(signal, "signal", install_and_be_told)
    with StopFlag() as stopped:
        assert stopped()
