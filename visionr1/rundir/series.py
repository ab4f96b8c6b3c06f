"""Which checkpoints belong to the run's one series of steps: an older attempt may have committed others, too late."""

from __future__ import annotations

from collections.abc import Sequence

from visionr1.errors import BadInput
from visionr1.rundir.epoch import EpochRecord, newest_epoch, read_epoch
from visionr1.rundir.layout import EPOCHS, epoch_key
from visionr1.storage.store import NotFound, Store


class Series:
    """The records of a run's epochs, each read once."""

    def __init__(self, store: Store) -> None:
        self._store, self._newest = store, newest_epoch(store)
        self._records: dict[int, EpochRecord] = {}

    def has(self, phase: str, step: int, epoch: int) -> bool:
        """Whether the checkpoint of a phase that the attempt with this epoch has committed belongs to the series.

        Raises:
            BadInput: a record is damaged or missing.
        """
        return belongs(phase, step, [self._record(number) for number in range(epoch + 1, self._newest + 1)])

    def _record(self, number: int) -> EpochRecord:
        if number not in self._records:
            try:
                self._records[number] = read_epoch(self._store, number)
            except NotFound:
                fault = "missing, though there are later ones; when nothing is at work in the run, delete the folder"
                raise BadInput(f"{self._store.url}/{epoch_key(number)}: {fault} {EPOCHS}") from None
        return self._records[number]


def belongs(phase: str, step: int, later: Sequence[EpochRecord]) -> bool:
    """Whether a committed step is one that all later attempts have gone on from or beyond. Pure.

    Args:
        later: the records of all epochs after that of the attempt that committed it, in order.
    """
    begun = [record for record in later if record.begun]
    if any(phase in record.undone for record in begun):
        return False
    starts = [record.step or 0 for record in begun if record.phase == phase]
    # Who went on from it vouches for it, whatever an attempt before has noted: that one may have looked before it was there.
    vouched = max((index for index, start in enumerate(starts) if start == step), default=-1)
    return all(step <= start for start in starts[vouched + 1 :])
