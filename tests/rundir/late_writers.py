"""Attempts at one stage as the tests of epochs have them, and writers that have looked before a take-over and write after it."""

from collections.abc import Callable
from typing import Any, cast

from visionr1.engine.saving import Saving
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.epoch import FencedStore
from visionr1.rundir.takeover import take_over
from visionr1.storage import Store

PHASE = "stage-1"
LAST = 12


def save(checkpoints: Checkpoints, step: int, text: str = "weights") -> None:
    """A checkpoint as a driver commits it."""
    folder = checkpoints.staging(step)
    checkpoints.clear(step)
    (folder / "model.safetensors").write_text(f"{text} {step}")
    entries = checkpoints.publish(step, folder, ["model.safetensors"])
    checkpoints.upload(step, entries)
    saving = Saving(checkpoints, lambda *_: None, lambda steps: steps[-2:], lambda *_: None)
    saving.commit(step, [entries], {}, wait=True)


def record(step: int) -> dict[str, object]:
    return {"phase": PHASE, "stage": 1, "step": step, "loss": 1 / step}


def late(store: Store, epoch: int) -> Store:
    """A writer that has looked before the take-over, and writes after it."""

    class Late(FencedStore):
        def check(self) -> None:
            pass

    return Late(store, epoch)


class Stalled:
    """The store as a process has it that hangs once, just before an operation; meanwhile `others` are at work."""

    def __init__(self, store: Store, operation: str, key: str, others: Callable[[], object]) -> None:
        self._store, self._operation, self._key, self._others = store, operation, key, [others]

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._store, name)
        if name != self._operation:
            return real

        def operation(key: str, *rest: Any) -> Any:
            if self._key in key and self._others:
                self._others.pop()()
            return real(key, *rest)

        return operation


def stalled(store: Store, operation: str, key: str, others: Callable[[], object]) -> Store:
    return cast(Store, Stalled(store, operation, key, others))


def trained(store: Store, first: int, last: int) -> None:
    """Another attempt trains and commits these steps."""
    checkpoints = Checkpoints(take_over(store, PHASE), PHASE)
    for step in range(first, last + 1):
        save(checkpoints, step)
