"""The start of an attempt: it takes the run over, and removes what attempts before it commit too late."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.epoch import FencedStore, begin_from, take_epoch
from visionr1.rundir.series import Series
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

    It looks only after it has taken the epoch, because until then the attempt before may commit, and once more after it has noted
    what it saw: what was there before the note may have been seen by others. What older attempts commit later is outdated by the
    note (see `series.py`), and is removed here or by the next commit.
    """
    fenced = take_epoch(store, phase)
    with fenced.blamed():
        before, checkpoints = Series(store, fenced.epoch - 1), Checkpoints(fenced, phase)
        late, step, noted = before.not_begun(), checkpoints.latest(before), False
        while not noted:
            begin_from(fenced, phase, step, late)
            seen, step = step, checkpoints.latest(before)
            noted = seen == step
        checkpoints.clear_left()
        checkpoints.remove_after(step)
    return fenced
