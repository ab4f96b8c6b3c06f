"""How far a run is, read from its run directory: local or on S3."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from visionr1.errors import EXIT_DONE, EXIT_STOPPED
from visionr1.metrics.steplog import read_steps
from visionr1.pipeline.observe import committed
from visionr1.pipeline.rundir import AttemptRecord, attempts
from visionr1.progress import PROGRESS_FILE
from visionr1.recipe import Recipe, phases
from visionr1.recipe.phases import Phase
from visionr1.storage import NotFound, Store
from visionr1.storage.layout import attempt_prefix
from visionr1.storage.run_recipe import read_recipe
from visionr1.watch.problems import problems

PACE_STEPS: Final = 10
"""Steps that speed and time left are taken from."""

State = Literal["running", "waiting", "stopped", "failed", "done"]


@dataclass(frozen=True)
class View:
    """A run at one moment.

    Attributes:
        now: unix seconds.
        chain: its phases, in order; `current` is the index of the one that it is in.
        state: waiting also stands for a run that nobody is seen to work on.
        done, total: steps (or problems) of the present phase; `total` None where it is not known.
        records: step records of the present phase; `stages` of all GRPO stages, oldest first.
        tokens_per_second: None before the second step.
        seconds_left: of the present phase; None where it cannot be told.
        problems: one line each, the worst first.
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

    @property
    def phase(self) -> Phase:
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
    current = _current(chain, steps, tried)
    phase = chain[current]
    own = [record for record in steps if record["phase"] == phase.name]
    last = list(tried[phase.name].values())[-1:]
    state = _state(last, committed(store, recipe, phase).complete, current == len(chain) - 1)
    done, total = _progress(store, recipe, phase, own, max(tried[phase.name], default=None))
    seconds = _pace(own)
    wrong = problems(phase, own, state == "running", now)
    if state == "failed":
        wrong.insert(0, f"attempt {max(tried[phase.name])} of {phase.title} ended with {last[0].exit_code}; see its log")
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
        limit=None if phase.stage_index is None else recipe.stages[phase.stage_index].max_completion_tokens,
        tokens_per_second=_tokens_per_second(own),
        seconds_left=None if seconds is None or total is None or state == "done" else seconds * (total - done),
        problems=wrong,
    )


def _current(chain: Sequence[Phase], steps: list[dict[str, Any]], tried: dict[str, dict[int, AttemptRecord]]) -> int:
    """The last phase of which there is an attempt or a step; the first before there is any."""
    begun = {record["phase"] for record in steps} | {name for name, made in tried.items() if made}
    return max((index for index, phase in enumerate(chain) if phase.name in begun), default=0)


def _state(last: list[AttemptRecord], complete: bool, final: bool) -> State:
    if complete:
        return "done" if final else "waiting"
    if not last:
        return "waiting"
    if last[0].ended is None:
        return "running"
    if last[0].exit_code == EXIT_STOPPED:
        return "stopped"
    return "waiting" if last[0].exit_code == EXIT_DONE else "failed"


def _progress(
    store: Store, recipe: Recipe, phase: Phase, own: list[dict[str, Any]], attempt: int | None
) -> tuple[int, int | None]:
    """Done and total of a phase, in steps or problems."""
    if phase.stage_index is not None:
        return (own[-1]["step"] - phase.first_step if own else 0), recipe.stages[phase.stage_index].steps
    said = None if attempt is None else _said(store, f"{attempt_prefix(phase.name, attempt)}/{PROGRESS_FILE}")
    if own:
        return own[-1]["step"], said["total"] if said else None
    return (said["done"], said["total"]) if said else (0, None)


def _said(store: Store, key: str) -> dict[str, Any] | None:
    try:
        said: dict[str, Any] = json.loads(store.read_bytes(key))
    except NotFound:
        return None
    return said


def _pace(records: list[dict[str, Any]]) -> float | None:
    """Seconds from one step's end to the next, over the last steps."""
    recent = records[-PACE_STEPS:]
    if len(recent) < 2:
        return None
    return float((recent[-1]["time"] - recent[0]["time"]) / (len(recent) - 1))


def _tokens_per_second(records: list[dict[str, Any]]) -> float | None:
    """Tokens sampled (trained, in SFT) in the last steps, over the time that they took."""
    recent = records[-PACE_STEPS:]
    if len(recent) < 2 or recent[-1]["time"] <= recent[0]["time"]:
        return None
    tokens = sum(record.get("generated_tokens", record.get("trained_tokens", 0)) for record in recent[1:])
    return float(tokens / (recent[-1]["time"] - recent[0]["time"]))
