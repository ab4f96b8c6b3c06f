"""What a run directory says about a phase; the same reading for a laptop and a cluster."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from visionr1.errors import BadInput
from visionr1.recipe.phases import BASE_MODEL, Phase, StagePhase
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.layout import COLDSTART_MANIFEST, eval_key
from visionr1.storage import NotFound, Store

_MOST_BYTES: Final = 1 << 20
"""Of a score file, which has a few hundred; the rest of a larger one is left, and what was read is no score file."""


@dataclass(frozen=True)
class Committed:
    """A phase's newest committed global step (None for none), and whether its final checkpoint or output is there."""

    step: int | None
    complete: bool


def committed(store: Store, phase: Phase) -> Committed:
    """Reads what `phase` has committed.

    Final is: for a stage the checkpoint of its last step; for SFT, whose number of steps depends on its
    data, the checkpoint whose state says `final`; for cold-start data its manifest; for evaluation the
    score of the run's last checkpoint.
    """
    if phase.kind == "coldstart":
        return Committed(None, store.exists(COLDSTART_MANIFEST))
    if phase.kind == "evaluate":
        return Committed(None, _scored(store, phase.input_phase))
    checkpoints = Checkpoints(store, phase.name)
    step = checkpoints.latest()
    if isinstance(phase, StagePhase):
        return Committed(step, step == phase.last_step)
    return Committed(step, step is not None and checkpoints.state(step).get("final") is True)


def _scored(store: Store, phase: str | None) -> bool:
    """Whether the score of the newest checkpoint of `phase` (None: the base model) is there."""
    step = Checkpoints(store, phase).latest() if phase else 0
    key = eval_key(phase or BASE_MODEL)
    try:
        return bool(json.loads(store.read_bytes(key, _MOST_BYTES))["step"] == step)
    except NotFound:
        return False
    except (ValueError, TypeError, LookupError, RecursionError):
        raise BadInput(f"{store.url}/{key}: not a score file; delete it to have it made again") from None
