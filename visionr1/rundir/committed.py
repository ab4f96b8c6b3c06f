"""What a run directory says about a phase; the same reading for a laptop and a cluster."""

from __future__ import annotations

from dataclasses import dataclass

from visionr1.recipe.phases import EvaluatePhase, Phase, StagePhase
from visionr1.rundir import coldstart
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.scores import Scores
from visionr1.storage import NotFound, Store


@dataclass(frozen=True)
class Committed:
    """A phase's newest committed global step (None for none), and whether its final checkpoint or output is there."""

    step: int | None
    complete: bool


def committed(store: Store, phase: Phase) -> Committed:
    """Reads what `phase` has committed.

    Final is: for a stage the checkpoint of its last step; for SFT, whose number of steps depends on its
    data, the checkpoint whose state says `final`; for cold-start data its manifest; for evaluation the
    score of the run's last checkpoint, made with the recipe's present values.

    Raises:
        BadInput: what must be read for it is damaged.
    """
    if phase.kind == "coldstart":
        return Committed(None, coldstart.is_committed(store))
    if isinstance(phase, EvaluatePhase):
        newest = Checkpoints(store, phase.input_phase).latest() if phase.input_phase else 0
        score = Scores(store, phase.settings).score(phase.input_phase)
        return Committed(None, score is not None and score.step == newest)
    checkpoints = Checkpoints(store, phase.name)
    step = checkpoints.latest()
    if step is None:
        return Committed(None, False)
    if isinstance(phase, StagePhase):
        return Committed(step, step == phase.last_step)
    try:
        return Committed(step, checkpoints.state(step).get("final") is True)
    except NotFound:  # a newer one has taken its place since it was listed
        return committed(store, phase)


def has_committed(store: Store, phase: Phase) -> bool:
    """Whether a later phase could start from anything that `phase` has made. Scores, which none starts from, do not count."""
    if phase.kind == "coldstart":
        return coldstart.is_committed(store)
    return phase.kind in ("sft", "grpo") and Checkpoints(store, phase.name).latest() is not None
