"""The planner's hands on one machine: a child process for each phase's attempt."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Final

from rich.console import Console

from visionr1.errors import EXIT_BAD_INPUT, EXIT_DONE, EXIT_FAILED, EXIT_STOPPED, BadInput
from visionr1.pipeline import planner, processes
from visionr1.pipeline.display import Display, cause, last_lines
from visionr1.recipe.phases import Phase, StagePhase, phases
from visionr1.recipe.schema import Recipe
from visionr1.rundir.attempts import AttemptRecord, attempts, write_attempt
from visionr1.rundir.committed import Committed, committed
from visionr1.rundir.layout import RECIPE, STEPS, attempt_log_key, attempt_prefix
from visionr1.rundir.lock import run_lock
from visionr1.rundir.progress import Progress, read_progress
from visionr1.rundir.recipe import adopt_recipe, read_recipe
from visionr1.storage import StorageError, Store, open_store

CommandFor = Callable[[Phase, str], list[str]]
"""The command line of a phase in a run directory."""

_LOOK_SECONDS: Final = 0.2
_SAMPLE_SECONDS: Final = 1.0
_LOG_LINES: Final = 15
_LEFT_BEHIND_SECONDS: Final = 10.0
"""What a phase's process leaves behind (Ray's own processes) may end by itself for so long."""
_COMMANDS: Final = {"coldstart": "coldstart", "sft": "sft", "grpo": "grpo", "evaluate": "eval"}


def phase_command(phase: Phase, run_url: str) -> list[str]:
    """`visionr1 sft|grpo|eval|coldstart --run DIR [--stage K]`, K counted from 1."""
    stage = ["--stage", str(phase.number)] if isinstance(phase, StagePhase) else []
    return [sys.executable, "-m", "visionr1.cli", _COMMANDS[phase.kind], "--run", run_url, *stage]


def run_local(
    recipe: Recipe,
    run_dir: str,
    *,
    command_for: CommandFor = phase_command,
    retry: planner.Retry | None = None,
    grace_seconds: float = 600.0,
    console: Console | None = None,
) -> int:
    """Run all phases that are not done yet, one after the other, in the local directory `run_dir`.

    SIGINT and SIGTERM let the phase commit a checkpoint, for at most `grace_seconds`; a second one ends
    it at once. The same call later goes on from the last committed checkpoint.

    Returns the exit code: 0 done, 3 stopped on request, 64 bad recipe or data, 1 failed, 128 + signal
    after a second signal.

    Raises BadInput if the directory is remote, in use, or has a run of another recipe.
    """
    store = open_store(run_dir)
    if store.local_path(STEPS) is None:
        raise BadInput(f"{run_dir}: a run on this machine needs a local directory; only runs on a cluster can use S3")
    console = console or Console(stderr=True)
    with run_lock(store):
        parts = store, command_for, retry or planner.Retry(), grace_seconds, console
        # Before the recipe changes: what is left of the run may still commit what it makes from the one that is there.
        _Runner(read_recipe(store) if store.exists(RECIPE) else recipe, *parts).end_orphans()
        adopt_recipe(store, recipe)
        runner = _Runner(recipe, *parts)
        with _signals() as signals, runner.display:
            return runner.run(signals)


@dataclass
class _Signals:
    """SIGINT and SIGTERM since the run started."""

    count: int = 0
    last: int = 0

    def handle(self, number: int, _: FrameType | None) -> None:
        self.count += 1
        self.last = number


@contextmanager
def _signals() -> Iterator[_Signals]:
    received = _Signals()
    before = {number: signal.signal(number, received.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass
class _Child:
    """The attempt that runs."""

    phase: Phase
    number: int
    record: AttemptRecord
    process: subprocess.Popen[bytes]
    folder: Path
    log: Path
    peak_bytes: int = 0
    sampled: float = 0.0
    kill_at: float | None = None
    unread: str = ""


class _Runner:
    """One call of `run_local`. If it ends by an error, the phase that runs is asked to stop as it is orphaned."""

    def __init__(
        self,
        recipe: Recipe,
        store: Store,
        command_for: CommandFor,
        retry: planner.Retry,
        grace_seconds: float,
        console: Console,
    ) -> None:
        self._recipe, self._store, self._command_for, self._grace_seconds = recipe, store, command_for, grace_seconds
        self._phases = {phase.name: phase for phase in phases(recipe)}
        self._spec = planner.RunSpec(tuple(self._phases), retry)
        self._attempts: dict[str, list[AttemptRecord]] = {name: [] for name in self._phases}
        self._committed: dict[str, Committed] = {}
        self._child: _Child | None = None
        self._waiting_until: float | None = None
        self.display = Display(console)

    def run(self, signals: _Signals) -> int:
        """Look, decide, act, until the run is done, stopped or failed."""
        for phase in self._phases.values():
            self._read_committed(phase)
        while True:
            if signals.count > 1:
                return self._end_at_once(signals.last)
            self._look()
            action = planner.plan(self._spec, self._observed(signals.count > 0), time.time())
            code = self._act(action)
            if code is not None:
                return code
            time.sleep(_LOOK_SECONDS)

    def _act(self, action: planner.Action) -> int | None:
        """Carries an action out; gives the exit code if it was the last one."""
        match action:
            case planner.Start(name):
                self._start(self._phases[name])
            case planner.Stop():
                self._ask_to_stop()
            case planner.Wait(name, until):
                self._announce_retry(name, until)
            case planner.Finish():
                return EXIT_DONE
            case planner.RunStopped(name):
                self._say(f"stopped in {name}; run the same command to continue from its last checkpoint")
                return EXIT_STOPPED
            case planner.Fail(name, reason, exit_code):
                self._say(f"{name} failed: {reason}")
                return EXIT_BAD_INPUT if exit_code == EXIT_BAD_INPUT else EXIT_FAILED
            case planner.Hold():
                raise AssertionError("a local run has no held phases")
        return None

    def end_orphans(self) -> None:
        """End what a killed runner has left running; it was asked to stop when the runner died."""
        for name in self._phases:
            for number, record in attempts(self._store, name).items():
                if record.ended is None:
                    folder = self._path(attempt_prefix(name, number))
                    if processes.marked(folder):
                        self._say(f"waiting until {name} of the previous run has committed a checkpoint and ended")
                    processes.wait_for(record.command, folder, self._grace_seconds)
                    processes.end_all(folder, _LEFT_BEHIND_SECONDS)
                    ended = replace(record, ended=time.time(), to_step=self._read_committed(self._phases[name]).step)
                    write_attempt(self._store, name, number, ended)

    def _observed(self, stop_requested: bool) -> planner.Observed:
        states = {}
        for name, now in self._committed.items():
            tried = tuple(
                planner.Attempt(record.started, record.from_step, record.ended, record.exit_code)
                for record in self._attempts[name]
            )
            # A phase that somebody else asked to stop is a stop of this run.
            stop_requested |= bool(tried) and tried[-1].exit_code == EXIT_STOPPED and not now.complete
            states[name] = planner.PhaseState(tried, now.step, now.complete)
        return planner.Observed(states, stop_requested)

    def _start(self, phase: Phase) -> None:
        number = max(attempts(self._store, phase.name), default=-1) + 1
        command = self._command_for(phase, self._store.url)
        record = AttemptRecord(command, time.time(), self._committed[phase.name].step)
        write_attempt(self._store, phase.name, number, record)
        folder, log = self._path(attempt_prefix(phase.name, number)), self._path(attempt_log_key(phase.name, number))
        process = processes.start(command, folder, log)
        self._attempts[phase.name].append(record)
        self._child = _Child(phase, number, record, process, folder, log)
        self._waiting_until = None
        self.display.begin(phase, number, log)

    def _look(self) -> None:
        """Watch the attempt that runs, and record its end."""
        child = self._child
        if child is None:
            return
        if child.process.poll() is not None:
            self._record_end(child)
            return
        now = time.monotonic()
        if child.kill_at is not None and now > child.kill_at:
            child.kill_at = math.inf
            self._say(f"{child.phase.name} did not stop within {self._grace_seconds:.0f} s and is killed")
            processes.end_all(child.folder)
        if now - child.sampled >= _SAMPLE_SECONDS:
            child.sampled = now
            child.peak_bytes = max(child.peak_bytes, processes.tree_bytes(child.process.pid))
            self.display.refresh(child.phase, self._progress(child))

    def _progress(self, child: _Child) -> Progress | None:
        try:
            return read_progress(self._store, child.phase.name, child.number)
        except (BadInput, StorageError) as error:  # no run ends because it cannot be shown; its process writes the file again
            if str(error) != child.unread:
                child.unread = str(error)
                self._say(child.unread)
            return None

    def _record_end(self, child: _Child) -> None:
        # What is left would keep memory and ports. Nobody else ends the children of a process that was killed.
        processes.end_all(child.folder, 0.0 if child.process.returncode < 0 else _LEFT_BEHIND_SECONDS)
        now = self._read_committed(child.phase)
        record = replace(
            child.record,
            ended=time.time(),
            exit_code=child.process.returncode,
            to_step=now.step,
            peak_bytes=child.peak_bytes,
        )
        write_attempt(self._store, child.phase.name, child.number, record)
        self._attempts[child.phase.name][-1] = record
        self._child = None
        self.display.end(child.phase, self._progress(child), (record.ended or 0.0) - record.started, now.complete)
        if not now.complete and child.kill_at is None and record.exit_code != EXIT_STOPPED:
            self._show_log(child, record)

    def _show_log(self, child: _Child, record: AttemptRecord) -> None:
        lines = last_lines(child.log, _LOG_LINES)
        why = cause(lines, record.exit_code)
        self._say(
            f"{child.phase.name}, attempt {child.number}, ended with exit code {record.exit_code}{f': {why}' if why else ''}"
        )
        self._say(f"the last lines of {child.log}, without warnings:")
        for line in lines:
            self._say(f"  {line}")

    def _ask_to_stop(self) -> None:
        child = self._child
        if child is None or child.kill_at is not None:
            return
        self._say(f"stopping: {child.phase.name} commits a checkpoint first (interrupt again to end it at once)")
        child.kill_at = time.monotonic() + self._grace_seconds
        child.process.send_signal(signal.SIGTERM)

    def _end_at_once(self, number: int) -> int:
        child = self._child
        if child is not None:
            processes.end_all(child.folder)
            child.process.wait()
            self._record_end(child)
        self._say("ended at once; run the same command to continue from the last committed checkpoint")
        return 128 + number

    def _announce_retry(self, name: str, until: float | None) -> None:
        if until is not None and until != self._waiting_until:
            self._waiting_until = until
            self._say(f"{name} is tried again in {max(0.0, until - time.time()):.0f} s, from its last committed checkpoint")

    def _read_committed(self, phase: Phase) -> Committed:
        """What a phase has committed; it changes only while its own attempt runs, so it is read at the end of one."""
        self._committed[phase.name] = committed(self._store, phase)
        return self._committed[phase.name]

    def _path(self, key: str) -> Path:
        path = self._store.local_path(key)
        assert path is not None, "run_local takes local directories only"
        return path.resolve()

    def _say(self, text: str) -> None:
        self.display.say(text)
