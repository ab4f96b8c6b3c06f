"""The start of an attempt: it takes the run over, and removes what attempts before it commit too late."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from visionr1.errors import BadInput
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.epoch import EpochRecord, FencedStore, newest_epoch, read_epoch, take_epoch
from visionr1.rundir.layout import EPOCHS, epoch_key
from visionr1.storage import NotFound, Store


@contextmanager
def taking_over(store: Store, phase: str) -> Iterator[FencedStore]:
    """Takes the run over for an attempt at `phase`, and yields the store that only this attempt can change.

    Any error in the block is Fenced if another attempt has taken the run over meanwhile.
    """
    fenced = take_over(store, phase)
    with fenced.blamed():
        yield fenced


def take_over(store: Store, phase: str) -> FencedStore:
    """Takes the run over; the newest checkpoint of `phase` is then the one that its attempt goes on from.

    An older attempt may have looked before the take-over and may commit after it. So the epoch's record has the step that the
    new attempt goes on from, and what older attempts have committed after that step is removed, now or at the next start.
    """
    checkpoints = Checkpoints(store, phase)
    while True:
        step = _newest(checkpoints)
        fenced = take_epoch(store, phase, step)
        Checkpoints(fenced, phase).remove_after(step)
        if step is None or step in checkpoints.steps():  # else the older attempt has just deleted it, for a newer one
            return fenced


def _records(store: Store, numbers: range) -> Iterator[EpochRecord]:
    for number in numbers:
        try:
            yield read_epoch(store, number)
        except NotFound:
            raise BadInput(
                f"{store.url}/{epoch_key(number)}: missing, though there are later ones; when nothing is at work in the run, "
                f"delete the folder {EPOCHS}"
            ) from None


def _newest(checkpoints: Checkpoints) -> int | None:
    """The newest checkpoint that no attempt has left behind."""
    newest = newest_epoch(checkpoints.store)
    for step in reversed(checkpoints.steps()):
        try:
            epoch = checkpoints.epoch(step)
        except NotFound:  # the older attempt has just deleted it
            continue
        later = _records(checkpoints.store, range(epoch + 1, newest + 1))
        if all(one.phase != checkpoints.phase or step <= (one.step or 0) for one in later):
            return step
    return None
