"""Shoots at the processes of a run at chosen moments, and starts it again as a person would.

A *shot* names the phase, the victim, the signal and the moment. Victims are found in the tree below the run's own runner, so
nothing else on the machine can be hit. `oom` is what the kernel's OOM killer does to a run: SIGKILL to the largest process of
the phase; the memory itself is not exhausted.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import psutil

from visionr1.rundir.attempts import AttemptRecord, attempts
from visionr1.rundir.layout import MANIFEST, attempt_prefix, checkpoint_prefix, checkpoints_prefix
from visionr1.rundir.steplog import read_steps
from visionr1.storage import open_store
from visionr1.storage.store import TEMPORARY

ROOT: Final = Path(__file__).parents[2]
Victim = Literal["runner", "launcher", "torchrun", "rank", "driver", "worker", "largest"]
Signal = Literal["SIGKILL", "SIGTERM", "oom"]
Moment = Literal["start", "steps", "writing", "committed", "border", "orphaned"]
_MARKS: Final = {
    "launcher": "visionr1.cli sft",
    "torchrun": "torch.distributed.run",
    "rank": "visionr1.sft.train",
    "driver": "visionr1.cli grpo",
    "worker": "ray::Host",
}
"""What the command line of a victim contains."""
_FAST, _SLOW = 0.005, 0.1
_STUCK_SECONDS: Final = 600.0


@dataclass(frozen=True)
class Shot:
    """What to hit and when.

    Moments: `start`, `delay` seconds after an attempt of the phase began and before its first step; `steps`, `delay` seconds
    after its first step; `writing`, while a checkpoint of the phase has files and no manifest; `committed`, when a manifest has
    just appeared; `border`, when the phase's last one has; `orphaned`, `delay` seconds after the shot before, which killed the
    runner, while the phase commits and ends by itself.
    """

    phase: str
    victim: Victim
    signal: Signal
    moment: Moment
    delay: float = 0.0


@dataclass
class Kill:
    """A shot that hit: when (unix seconds), how many logged steps of the phase were trained again, seconds until the run had
    gone on beyond where it was hit (or was hit again)."""

    shot: Shot
    time: float
    repeated: int = 0
    seconds: float = 0.0


@dataclass
class Target:
    """One run directory with its runner; `ends` are the last global steps of its phases, in order."""

    folder: Path
    settings: list[str]
    ends: dict[str, int]
    kills: list[Kill] = field(default_factory=list)
    committed: dict[tuple[str, int], float] = field(default_factory=dict)
    """When each committed step was logged, as seen after a kill: training it again would change that."""
    runner: subprocess.Popen[bytes] | None = None
    done: bool = False
    _phase_process: psutil.Process | None = None
    _unsettled: tuple[Kill, int] | None = None

    def __post_init__(self) -> None:
        self.store = open_store(str(self.folder))

    def shoot(self, shots: list[Shot]) -> None:
        """Fires all shots in order, leaving out those whose moment does not come, and lets the run end."""
        try:
            for shot in shots:
                if shot.moment != "orphaned":
                    self._settle()
                self._fire(shot)
            self._settle()
            self._until(lambda: self.done)
        finally:
            self.end()
        self._measure()

    def end(self) -> None:
        """Kills what is left of the run; nothing, if it has ended by itself."""
        if self.runner is not None and self.runner.poll() is None:
            for process in [*psutil.Process(self.runner.pid).children(recursive=True), psutil.Process(self.runner.pid)]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            self.runner.wait()

    def _fire(self, shot: Shot) -> None:
        begun = time.monotonic()
        while not self.done:
            if shot.moment != "orphaned":
                self._keep_running()
            number = len(attempts(self.store, shot.phase)) - 1
            if self._over(shot):
                return
            victim = self._victim(shot, number) if number >= 0 else None
            if shot.moment == "orphaned" and victim is None:
                return  # it has ended already
            if victim and self._wait_for_moment(shot, number, time.monotonic() + 0.5) and self._hit(shot, victim, number):
                return
            assert time.monotonic() - begun < _STUCK_SECONDS, f"{shot} has not come; the run: {self._reported()}"
            time.sleep(_SLOW)

    def _over(self, shot: Shot) -> bool:
        """Whether the moment cannot come any more."""
        names = list(self.ends)
        later = any(attempts(self.store, name) for name in names[names.index(shot.phase) + 1 :])
        return later or (shot.moment not in ("border", "orphaned") and self._complete(shot.phase))

    def _wait_for_moment(self, shot: Shot, number: int, until: float) -> bool:
        """Looks for the moment closely for a while."""
        record = attempts(self.store, shot.phase)[number]
        while time.monotonic() < until:
            if self._due(shot, record):
                return True
            time.sleep(_FAST)
        return False

    def _due(self, shot: Shot, record: AttemptRecord) -> bool:
        match shot.moment:
            case "start":
                return self._first_step(shot.phase, record) is None and time.time() - record.started >= shot.delay
            case "steps":
                first = self._first_step(shot.phase, record)
                return first is not None and time.time() - first >= shot.delay and not self._complete(shot.phase)
            case "writing":
                return bool(self._made(shot.phase, record, committed=False))
            case "committed":
                return bool(self._made(shot.phase, record, committed=True)) and not self._complete(shot.phase)
            case "border":
                return self._complete(shot.phase)
            case "orphaned":
                return bool(self.kills) and time.time() - self.kills[-1].time >= shot.delay

    def _first_step(self, phase: str, record: AttemptRecord) -> float | None:
        """When the attempt logged its first step."""
        return next((step["time"] for step in self._records(phase) if step["time"] > record.started), None)

    def _made(self, phase: str, record: AttemptRecord, committed: bool) -> list[Path]:
        """Folders of checkpoints that the attempt has committed, or writes to."""
        top, found = self.folder / checkpoints_prefix(phase), []
        for folder in (*top.glob("step-*"), *top.glob(f"{TEMPORARY}*/step-*")):
            with suppress(FileNotFoundError):  # just removed
                files = [file for file in folder.iterdir() if file.stat().st_mtime > record.started]
                if files and committed == (folder / MANIFEST).exists():
                    found.append(folder)
        return found

    def _victim(self, shot: Shot, number: int) -> psutil.Process | None:
        """The process to hit, which must belong to the newest attempt of the shot's phase."""
        assert self.runner is not None
        tree = self._tree(shot, number)  # while there is a runner: what it leaves behind cannot be found from it
        if shot.victim == "runner":
            return psutil.Process(self.runner.pid) if self.runner.poll() is None and (tree or shot.moment == "border") else None
        if shot.victim == "largest":
            return max(tree, key=_resident) if tree else None
        found = [process for process in tree if _is(process, shot.victim)]
        return random.Random(shot.delay).choice(found) if found else None

    def _tree(self, shot: Shot, number: int) -> list[psutil.Process]:
        """The phase's process and all below it; it may have outlived its runner."""
        folder = str((self.folder / attempt_prefix(shot.phase, number)).resolve())
        with suppress(psutil.Error):
            if self._phase_process is None or self._phase_process.environ().get("VISIONR1_ATTEMPT") != folder:
                self._phase_process = None
                assert self.runner is not None
                for child in psutil.Process(self.runner.pid).children() if self.runner.poll() is None else ():
                    if child.environ().get("VISIONR1_ATTEMPT") == folder:
                        self._phase_process = child
            if self._phase_process is not None:
                return [self._phase_process, *self._phase_process.children(recursive=True)]
        self._phase_process = None
        return []

    def _hit(self, shot: Shot, victim: psutil.Process, number: int) -> bool:
        """Whether the victim was still alive."""
        try:
            if victim.status() == psutil.STATUS_ZOMBIE:
                return False
            victim.send_signal(signal.SIGTERM if shot.signal == "SIGTERM" else signal.SIGKILL)
        except psutil.NoSuchProcess:
            return False
        self.kills.append(Kill(shot, time.time()))
        self._unsettled = self.kills[-1], number
        return True

    def _settle(self) -> None:
        """Waits until the run has gone on after the last kill, and notes what it takes up again."""
        if self._unsettled is None:
            self._until(lambda: any(attempts(self.store, name) for name in self.ends))
            return
        (kill, number), self._unsettled = self._unsettled, None
        phase = kill.shot.phase
        self._until(lambda: self.done or len(attempts(self.store, phase)) - 1 > number or self._gone_on(phase))
        records = self._records()
        again = attempts(self.store, phase)
        from_step = again[number + 1].from_step if number + 1 in again else self.ends[phase]
        for record in records:
            if record["phase"] != phase or record["step"] <= (from_step or 0):
                self.committed.setdefault((record["phase"], record["step"]), record["time"])
        kill.repeated = sum(record["phase"] == phase and record["step"] > (from_step or 0) for record in records)

    def _gone_on(self, phase: str) -> bool:
        names = list(self.ends)
        return self._complete(phase) and any(attempts(self.store, name) for name in names[names.index(phase) + 1 :])

    def _until(self, condition: Callable[[], object]) -> None:
        begun = time.monotonic()
        while not condition():
            assert time.monotonic() - begun < _STUCK_SECONDS, f"the run does not go on: {self._reported()}"
            self._keep_running()
            time.sleep(_SLOW)

    def _keep_running(self) -> None:
        """Starts the run, or again after its runner was killed or stopped; a run that gave up is an error."""
        if self.done or (self.runner is not None and self.runner.poll() is None):
            return
        if self.runner is not None:
            self.done = self.runner.returncode == 0
            if self.done:
                return
            assert self.runner.returncode in (3, -signal.SIGKILL, -signal.SIGTERM), self._reported()
        command = [sys.executable, str(Path(__file__).with_name("go.py")), str(self.folder), *self.settings]
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "runner.txt").open("ab") as log:
            self.runner = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=os.environ | {"PYTHONPATH": str(ROOT)})

    def _reported(self) -> str:
        return (self.folder / "runner.txt").read_text()[-4000:]

    def _complete(self, phase: str) -> bool:
        return (self.folder / checkpoint_prefix(phase, self.ends[phase]) / MANIFEST).exists()

    def _records(self, phase: str | None = None) -> list[dict[str, Any]]:
        return [record for record in read_steps(self.store) if phase in (None, record["phase"])]

    def _measure(self) -> None:
        """Seconds of each kill, from the times of the steps that came after it."""
        for place, kill in enumerate(self.kills):
            following = [other.time for other in self.kills[place + 1 : place + 2]]
            beyond = [record["time"] for record in self._records() if record["time"] > kill.time]
            skipped = beyond[kill.repeated :] or beyond[-1:] or [kill.time]
            kill.seconds = min([skipped[0], *following]) - kill.time


def _is(process: psutil.Process, victim: str) -> bool:
    try:
        line = " ".join(process.cmdline())
    except psutil.Error:
        return False
    return _MARKS[victim] in line and not (victim == "rank" and _MARKS["torchrun"] in line)


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
