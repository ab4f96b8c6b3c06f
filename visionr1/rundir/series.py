"""Which checkpoints belong to the run's one series of steps: an older attempt may have committed others, too late."""

from __future__ import annotations

from collections.abc import Mapping

from visionr1.errors import BadInput
from visionr1.rundir.epoch import EpochRecord, newest_epoch, read_epoch
from visionr1.rundir.layout import EPOCHS, epoch_key
from visionr1.storage.store import NotFound, Store


class Series:
    """The records of a run's epochs, each read once.

    Args:
        up_to: the last epoch that counts. None is the newest.
    """

    def __init__(self, store: Store, up_to: int | None = None) -> None:
        self._store, self._newest = store, newest_epoch(store) if up_to is None else up_to
        self._records: dict[int, EpochRecord] = {}

    def has(self, phase: str, step: int, epoch: int) -> bool:
        """Whether the checkpoint of a phase that the attempt with this epoch has committed belongs to the series.

        Raises:
            BadInput: a record is damaged or missing.
        """
        return belongs(phase, step, {number: self._record(number) for number in range(epoch + 1, self._newest + 1)})

    def not_begun(self) -> tuple[int, ...]:
        """Numbers of the newest attempts that have not noted where they go on, down to one that has."""
        found: list[int] = []
        while self._newest > len(found) and not self._record(self._newest - len(found)).begun:
            found.append(self._newest - len(found))
        return tuple(found)

    def _record(self, number: int) -> EpochRecord:
        if number not in self._records:
            try:
                self._records[number] = read_epoch(self._store, number)
            except NotFound:
                fault = "missing, though there are later ones; when nothing is at work in the run, delete the folder"
                raise BadInput(f"{self._store.url}/{epoch_key(number)}: {fault} {EPOCHS}") from None
        return self._records[number]


def belongs(phase: str, step: int, later: Mapping[int, EpochRecord]) -> bool:
    """Whether a committed step is one that all later attempts have gone on from or beyond. Pure.

    Args:
        later: the records of all epochs after that of the attempt that committed it, by number.
    """
    begun = {number: record for number, record in later.items() if record.begun}
    late = {number for record in begun.values() for number in record.late}
    counted = [record for number, record in begun.items() if number not in late]
    undone = any(phase in record.undone for record in counted)
    return not undone and all(step <= (record.step or 0) for record in counted if record.phase == phase)
