"""The start of an attempt: it takes the run over, and removes what attempts before it commit too late."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.epoch import FencedStore, begin_from, take_epoch
from visionr1.storage import Store


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

    It looks only after it has taken the epoch, because until then the attempt before may commit. What that one commits later is
    outdated by this epoch's record (see `series.py`), and is removed here or by the next commit.
    """
    fenced = take_epoch(store, phase)
    with fenced.blamed():
        step = Checkpoints(store, phase).latest()
        begin_from(fenced, phase, step)
        Checkpoints(fenced, phase).remove_after(step)
    return fenced
