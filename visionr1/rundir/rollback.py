"""Taking a run back to one of its checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from visionr1.recipe import Phase, Recipe, phases, phases_from
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.epoch import FencedStore, begin_from, newest_epoch, read_epoch, take_epoch
from visionr1.rundir.layout import STEPS, checkpoint_prefix, rolled_back_steps_key
from visionr1.rundir.scores import delete_scores
from visionr1.rundir.series import Series
from visionr1.rundir.steplog import as_lines, read_steps
from visionr1.storage import Store


@dataclass(frozen=True)
class Rollback:
    """The checkpoint to go back to. With the global step before a phase's first one, all of that phase is taken back."""

    phase: str
    step: int


def refusal(store: Store, recipe: Recipe, to: Rollback, stage: str) -> str | None:
    """Why a run that is in `stage` cannot go back there, or None."""
    first_steps = {phase.name: phase.first_step for phase in phases(recipe)}
    names = list(first_steps)
    if to.phase not in names[: names.index(stage) + 1]:
        return f"{to.phase} is no phase up to {stage}"
    steps = Checkpoints(store, to.phase).steps()
    if to.step in steps or (to.phase == stage and to.step == first_steps[stage]):
        return None
    return f"{checkpoint_prefix(to.phase, to.step)} is not there (there are: {', '.join(map(str, steps)) or 'none'})"


def is_rolled_back(store: Store, recipe: Recipe, to: Rollback) -> bool:
    """Whether nothing is there that came after the checkpoint."""
    later = [(phase.name, step) for phase, step in _after(store, recipe, to)]
    return not later and not any(_is_after(recipe, to, record["phase"], record["step"]) for record in read_steps(store))


def roll_back(store: Store, recipe: Recipe, to: Rollback, archive: str) -> None:
    """Deletes every checkpoint and score after the checkpoint; nothing of the run may be at work. Safe to be repeated.

    The records of the steps that are taken back are kept under the name `archive`.

    Raises:
        BadInput: steps.jsonl cannot be read.
    """
    undone = tuple(phase.name for phase in phases_from(recipe, to.phase)[1:])
    store = _fenced(store, to, undone, archive)  # first of all: a process that nobody sees any more commits nothing from now on
    records = read_steps(store)
    back = [record for record in records if _is_after(recipe, to, record["phase"], record["step"])]
    after = list(_after(store, recipe, to))
    if back:  # first, because afterwards nobody can see what was deleted below
        store.write_bytes(rolled_back_steps_key(archive), as_lines(back))
    for name in {phase.name for phase in phases_from(recipe, to.phase)[1:]} | {phase.name for phase, _ in after}:
        delete_scores(store, name)
    for phase, step in after:
        Checkpoints(store, phase.name).remove(step)
    for name in (to.phase, *undone):
        Checkpoints(store, name).clear_left()
    # Also if nothing changes: see StepLog.
    store.write_bytes(STEPS, as_lines([record for record in records if record not in back]))


def _fenced(store: Store, to: Rollback, undone: tuple[str, ...], archive: str) -> FencedStore:
    """The epoch of this rollback. If an earlier try has it, and nobody else since, it stays: readers read one record for each."""
    newest = newest_epoch(store)
    if newest and read_epoch(store, newest).rollback == archive:
        return FencedStore(store, newest)
    fenced = take_epoch(store, to.phase)
    begin_from(fenced, to.phase, to.step, Series(store, fenced.epoch - 1).not_begun(), undone, archive)
    return fenced


def _after(store: Store, recipe: Recipe, to: Rollback) -> Iterator[tuple[Phase, int]]:
    """The checkpoints after the one to go back to, the newest first, so each is deleted before the one that it began from."""
    for phase in reversed(phases_from(recipe, to.phase)):
        if phase.kind in ("sft", "grpo"):
            for step in reversed(Checkpoints(store, phase.name).folders()):
                if phase.name != to.phase or step > to.step:
                    yield phase, step


def _is_after(recipe: Recipe, to: Rollback, phase: str, step: int) -> bool:
    names = [one.name for one in phases_from(recipe, to.phase)]
    return phase in names and (phase != to.phase or step > to.step)
