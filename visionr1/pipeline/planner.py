"""What to do next with a run: one pure decision, the same for a laptop and for a cluster.

A runner (`visionr1.pipeline.local`, or the operator) observes, asks `plan`, carries out the one action
that it gives, and observes again. Nothing is remembered here, so a runner that was killed and started
again decides the same as before. A phase is done when its final checkpoint or output is committed, never by an exit code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from visionr1.errors import EXIT_BAD_INPUT, EXIT_DONE, EXIT_FENCED, EXIT_STOPPED


@dataclass(frozen=True)
class Retry:
    """How often a phase may fail in a row without a new checkpoint, and the wait before each retry.

    The wait doubles from `first_wait` seconds up to `longest_wait`. A failed attempt that committed a
    checkpoint starts the count again, and its retry does not wait. An attempt whose run another one has
    taken over is no failure; its retry waits like that of one, since otherwise two runners of one run
    would end each other's attempts for ever.
    """

    max_attempts: int = 3
    first_wait: float = 10.0
    longest_wait: float = 300.0


@dataclass(frozen=True)
class RunSpec:
    """The run that is wanted: its phases in order, and the phases that a person must let begin."""

    phases: tuple[str, ...]
    retry: Retry = Retry()
    hold_before: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Attempt:
    """One process (or job) of a phase; times in unix seconds.

    `from_step` is the phase's newest committed global step when the attempt began, None for none.
    `ended` is None while it runs; `exit_code` is None then, and where nobody saw it end.
    """

    started: float
    from_step: int | None = None
    ended: float | None = None
    exit_code: int | None = None


@dataclass(frozen=True)
class PhaseState:
    """How far a phase is.

    Attributes:
        attempts: those since a person last started the run.
        committed_step: the newest committed global step, None for none.
        complete: whether its final checkpoint or output is committed.
    """

    attempts: tuple[Attempt, ...] = ()
    committed_step: int | None = None
    complete: bool = False

    @property
    def running(self) -> bool:
        """Whether the newest attempt has not ended."""
        return bool(self.attempts) and self.attempts[-1].ended is None


@dataclass(frozen=True)
class Observed:
    """Everything that a decision depends on. A phase that is missing from `phases` has not begun."""

    phases: Mapping[str, PhaseState] = field(default_factory=dict)
    stop_requested: bool = False

    def of(self, phase: str) -> PhaseState:
        """The state of a phase, begun or not."""
        return self.phases.get(phase, PhaseState())


@dataclass(frozen=True)
class Start:
    """Start the phase's next attempt. It continues from its newest committed checkpoint."""

    phase: str


@dataclass(frozen=True)
class Wait:
    """Do nothing: `phase` runs (`until` is None), or its retry is due at `until` (unix seconds)."""

    phase: str
    until: float | None = None


@dataclass(frozen=True)
class Stop:
    """Ask the phase that runs to commit a checkpoint and end."""

    phase: str


@dataclass(frozen=True)
class Hold:
    """Wait until a person lets the phase begin."""

    phase: str


@dataclass(frozen=True)
class RunStopped:
    """The run has stopped on request before or in `phase`. It can continue from there."""

    phase: str


@dataclass(frozen=True)
class Fail:
    """The run cannot go on by itself; `reason` is one line for a person."""

    phase: str
    reason: str
    exit_code: int | None


@dataclass(frozen=True)
class Finish:
    """All phases are done."""


Action = Start | Wait | Stop | Hold | RunStopped | Fail | Finish


def plan(run: RunSpec, observed: Observed, now: float) -> Action:
    """The one thing to do now (`now` in unix seconds)."""
    for phase in run.phases:
        if observed.of(phase).running:
            return Stop(phase) if observed.stop_requested else Wait(phase)
    waiting = [phase for phase in run.phases if not observed.of(phase).complete]
    if not waiting:
        return Finish()
    if observed.stop_requested:
        return RunStopped(waiting[0])
    return _next_attempt(run, waiting[0], observed.of(waiting[0]), now)


def _next_attempt(run: RunSpec, phase: str, state: PhaseState, now: float) -> Action:
    if not state.attempts:
        held = phase in run.hold_before and state.committed_step is None
        return Hold(phase) if held else Start(phase)
    last = state.attempts[-1]
    if last.exit_code == EXIT_BAD_INPUT:
        return Fail(phase, "bad recipe or data; trying again cannot help", last.exit_code)
    failures = failures_in_a_row(state)
    if failures >= run.retry.max_attempts:
        return Fail(phase, f"{failures} attempts failed without a new checkpoint; {ending(last)}", last.exit_code)
    assert last.ended is not None, "plan() has dealt with a phase that runs"
    due = last.ended + backoff(run.retry, len(_fruitless(state)))
    return Start(phase) if now >= due else Wait(phase, due)


def failures_in_a_row(state: PhaseState) -> int:
    """Newest attempts that neither committed a checkpoint nor were stopped on request, without those that were taken over."""
    return sum(attempt.exit_code != EXIT_FENCED for attempt in _fruitless(state))


def _fruitless(state: PhaseState) -> list[Attempt]:
    """Newest attempts that neither committed a checkpoint nor were stopped on request."""
    found: list[Attempt] = []
    step_after = state.committed_step
    for attempt in reversed(state.attempts):
        if step_after != attempt.from_step or attempt.exit_code == EXIT_STOPPED:
            break
        found.append(attempt)
        step_after = attempt.from_step
    return found


def backoff(retry: Retry, failures: int) -> float:
    """Seconds between the end of the last of so many fruitless attempts in a row and the retry."""
    if failures == 0:
        return 0.0
    doublings = min(failures - 1, 60)  # a float cannot hold 2**1024
    return min(retry.first_wait * 2.0**doublings, retry.longest_wait)


def ending(attempt: Attempt) -> str:
    """How an attempt ended, in words."""
    code = attempt.exit_code
    if code is None:
        return "nobody saw how the last one ended"
    if code == EXIT_FENCED:
        return "another attempt has taken the last one's run over"
    if code == EXIT_DONE:
        return "the last one ended without its final checkpoint"
    if code < 0:
        return f"the last one was killed by signal {-code}"
    return f"the last one ended with exit code {code}"
