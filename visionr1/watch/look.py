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
"""Speed and time left are computed from so many steps."""

State = Literal["running", "waiting", "held", "stopped", "failed", "done"]


@dataclass(frozen=True)
class View:
    """A run at one moment.

    Attributes:
        now: unix seconds.
        chain: its phases, in order. `current` is the index of the current one.
        state: `waiting` also means that no process was found that works on the run. A cluster keeps its attempts elsewhere:
            there a phase is `running` if it has steps and is not complete.
        done, total: steps (or problems) of the current phase. `total` is None if it is not known.
        records: step records of the current phase, oldest first. `time` is None if it is not known.
        stages: the same for all GRPO stages.
        tokens_per_second: None before the second step.
        seconds_left: for the current phase. None if it is not known.
        problems: one line each, the worst first.
        note: a sentence about the run from the program that runs it, such as the operator.
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
        """The phase that runs now, or is next, or was the last one."""
        return self.chain[self.current]


def look(store: Store, now: float) -> View:
    """Reads the run directory once.

    Raises:
        BadInput: it is no run directory, or a file in it is damaged.
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
    """The last phase that has begun and is not complete. Without one, the first that is not complete, or the last one.

    A cluster keeps its attempts elsewhere. So a phase has also begun if it has a step.
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
    """The state of the run, from the state of its current phase. If that is done, the run waits for the next one to begin."""
    if all_complete:
        return "done"
    if current == "begun":
        return "running"
    return "waiting" if current == "done" else current


def _progress(store: Store, phase: Phase, own: list[dict[str, Any]], attempt: int | None) -> tuple[int, int | None]:
    """How much of a phase is done, and its total, in steps or problems."""
    if isinstance(phase, StagePhase):
        return (own[-1]["step"] - phase.first_step if own else 0), phase.stage.steps
    now = None if attempt is None else read_progress(store, phase.name, attempt)
    if own:
        return own[-1]["step"], now.total if now else None
    return (now.done, now.total) if now else (0, None)


def pace(records: list[dict[str, Any]]) -> float | None:
    """Mean seconds per step, from the end times of the last steps. Steps without a time are ignored."""
    recent = _timed(records)[-PACE_STEPS:]
    if len(recent) < 2 or recent[-1]["step"] <= recent[0]["step"]:
        return None
    return float((recent[-1]["time"] - recent[0]["time"]) / (recent[-1]["step"] - recent[0]["step"]))


def tokens_per_second(records: list[dict[str, Any]]) -> float | None:
    """Tokens sampled (in SFT: trained) per second, over the last steps."""
    recent = _timed(records)[-PACE_STEPS:]
    if len(recent) < 2 or recent[-1]["time"] <= recent[0]["time"]:
        return None
    tokens = sum(record.get("generated_tokens", record.get("trained_tokens")) or 0 for record in recent[1:])
    return float(tokens / (recent[-1]["time"] - recent[0]["time"]))


def _timed(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record for record in records if record["time"] is not None]
