"""How far a run is, read from its run directory: local or on S3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from visionr1.errors import EXIT_DONE
from visionr1.recipe import phases
from visionr1.recipe.phases import Phase, StagePhase
from visionr1.rundir.attempts import AttemptRecord, attempts, phase_state
from visionr1.rundir.attempts import State as PhaseState
from visionr1.rundir.committed import committed
from visionr1.rundir.progress import read_progress
from visionr1.rundir.recipe import read_recipe
from visionr1.rundir.steplog import read_steps
from visionr1.storage import Store
from visionr1.watch.problems import problems

PACE_STEPS: Final = 10
"""Steps that speed and time left are taken from."""

State = Literal["running", "waiting", "held", "stopped", "failed", "done"]


@dataclass(frozen=True)
class View:
    """A run at one moment.

    Attributes:
        now: unix seconds.
        chain: its phases, in order; `current` is the index of the one that it is in.
        state: waiting also stands for a run that nobody is seen to work on. On a cluster, that a phase has steps and is
            not complete counts as running.
        done, total: steps (or problems) of the present phase; `total` None where it is not known.
        records: step records of the present phase, `time` None where it is not known; `stages` of all GRPO stages, oldest first.
        tokens_per_second: None before the second step.
        seconds_left: of the present phase; None where it cannot be told.
        problems: one line each, the worst first.
        note: what whoever runs it says of it, in words.
    """

    name: str
    url: str
    now: float
    chain: tuple[Phase, ...]
    current: int
    state: State
    done: int
    total: int | None
    records: list[dict[str, Any]]
    stages: list[dict[str, Any]]
    limit: int | None
    tokens_per_second: float | None
    seconds_left: float | None
    problems: list[str]
    note: str = ""

    @property
    def phase(self) -> Phase:
        """The phase that is under way, or comes next, or was the last."""
        return self.chain[self.current]


def look(store: Store, now: float) -> View:
    """Reads the run directory once.

    Raises:
        BadInput: it is no run directory, or holds a damaged file.
        StorageError: it cannot be read now.
    """
    recipe = read_recipe(store)
    chain = phases(recipe)
    steps = read_steps(store)
    tried = {phase.name: attempts(store, phase.name) for phase in chain}
    complete = [committed(store, phase).complete for phase in chain]
    current = _current(chain, complete, steps, tried)
    phase = chain[current]
    own = [record for record in steps if record["phase"] == phase.name]
    state = _state(all(complete), phase_state(complete[current], tried[phase.name], bool(own)))
    done, total = _progress(store, phase, own, max(tried[phase.name], default=None))
    seconds = pace(own)
    wrong = problems(phase, own, state == "running", now)
    if state == "failed":
        last = max(tried[phase.name])
        wrong.insert(0, f"attempt {last} of {phase.title} ended with {tried[phase.name][last].exit_code}; see its log")
    return View(
        name=recipe.name,
        url=store.url,
        now=now,
        chain=chain,
        current=current,
        state=state,
        done=done,
        total=total,
        records=own,
        stages=[record for record in steps if record.get("stage") is not None],
        limit=phase.stage.max_completion_tokens if isinstance(phase, StagePhase) else None,
        tokens_per_second=tokens_per_second(own),
        seconds_left=None if seconds is None or total is None or state == "done" else seconds * (total - done),
        problems=wrong,
    )


def _current(
    chain: Sequence[Phase],
    complete: Sequence[bool],
    steps: list[dict[str, Any]],
    tried: dict[str, dict[int, AttemptRecord]],
) -> int:
    """The last phase that has begun and is not over; else the first that is not complete, or the last one.

    A cluster keeps its attempts elsewhere, so a phase has also begun when it has a step.
    """
    stepped = {record["phase"] for record in steps}
    under_way = []
    for index, phase in enumerate(chain):
        newest = list(tried[phase.name].values())[-1:]
        begun = newest[0].exit_code != EXIT_DONE if newest else phase.name in stepped
        if begun and not complete[index]:
            under_way.append(index)
    return max(under_way, default=complete.index(False) if False in complete else len(chain) - 1)


def _state(all_complete: bool, current: PhaseState) -> State:
    """Of the run, from that of the phase that it is in; a phase that is done has one after it that nobody works on yet."""
    if all_complete:
        return "done"
    if current == "begun":
        return "running"
    return "waiting" if current == "done" else current


def _progress(store: Store, phase: Phase, own: list[dict[str, Any]], attempt: int | None) -> tuple[int, int | None]:
    """Done and total of a phase, in steps or problems."""
    if isinstance(phase, StagePhase):
        return (own[-1]["step"] - phase.first_step if own else 0), phase.stage.steps
    now = None if attempt is None else read_progress(store, phase.name, attempt)
    if own:
        return own[-1]["step"], now.total if now else None
    return (now.done, now.total) if now else (0, None)


def pace(records: list[dict[str, Any]]) -> float | None:
    """Seconds from one step's end to the next, over the last steps whose ends are known."""
    recent = _timed(records)[-PACE_STEPS:]
    if len(recent) < 2 or recent[-1]["step"] <= recent[0]["step"]:
        return None
    return float((recent[-1]["time"] - recent[0]["time"]) / (recent[-1]["step"] - recent[0]["step"]))


def tokens_per_second(records: list[dict[str, Any]]) -> float | None:
    """Tokens sampled (trained, in SFT) in the last steps, over the time that they took."""
    recent = _timed(records)[-PACE_STEPS:]
    if len(recent) < 2 or recent[-1]["time"] <= recent[0]["time"]:
        return None
    tokens = sum(record.get("generated_tokens", record.get("trained_tokens")) or 0 for record in recent[1:])
    return float(tokens / (recent[-1]["time"] - recent[0]["time"]))


def _timed(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record for record in records if record["time"] is not None]
