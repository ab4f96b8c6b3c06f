"""Which problems come next: a shuffle an epoch, and a state that says exactly where it is."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Mapping
from typing import Any

from visionr1.data.fingerprint import difference
from visionr1.errors import BadInput


class PromptSampler:
    """Draws row indices. Every epoch has each row once, in an order that depends only on (seed, epoch).

    `state` is {seed, epoch, index, fingerprint}: `index` rows of `epoch` have been drawn. A sampler made with it
    goes on with exactly the rows that would have come. Raises BadInput, naming `source`, when the data or the seed is not
    the state's.
    """

    def __init__(
        self, n_rows: int, seed: int, fingerprint: str, state: Mapping[str, Any] | None = None, source: str = "data.train"
    ) -> None:
        if n_rows < 1:
            raise BadInput(f"{source} has no usable row; run `visionr1 data check` to see what is wrong")
        self._source = source
        self._n_rows = n_rows
        self._seed = seed
        self._fingerprint = fingerprint
        self._epoch, self._index = (0, 0) if state is None else self._resume(state)
        self._order = array("q", shuffled(n_rows, seed, self._epoch))

    def _resume(self, state: Mapping[str, Any]) -> tuple[int, int]:
        changed = difference(state["fingerprint"], self._fingerprint)
        if changed:
            raise BadInput(f"{self._source} is not the data of this run: {changed}. Restore the old data, or start a new run")
        if state["seed"] != self._seed:
            raise BadInput(
                f"this run began with seed {state['seed']}, but the recipe has {self._seed}; set it to {state['seed']} again"
            )
        if state["index"] > self._n_rows:
            raise BadInput(
                f"{self._source} has {self._n_rows} rows, and this run's checkpoint says that {state['index']} were drawn"
            )
        return state["epoch"], state["index"]

    @property
    def state(self) -> dict[str, Any]:
        """JSON-serialisable place in the data."""
        return {"seed": self._seed, "epoch": self._epoch, "index": self._index, "fingerprint": self._fingerprint}

    def next(self, k: int) -> list[int]:
        """The next k row indices; a draw may cross into the next epoch."""
        drawn: list[int] = []
        while len(drawn) < k:
            if self._index == self._n_rows:
                self._epoch, self._index = self._epoch + 1, 0
                self._order = array("q", shuffled(self._n_rows, self._seed, self._epoch))
            taken = self._order[self._index : self._index + k - len(drawn)]
            drawn += taken
            self._index += len(taken)
        return drawn


def shuffled(n_rows: int, seed: int, epoch: int) -> list[int]:
    """The order of an epoch: rows sorted by a keyed hash, the same on every machine and version of Python."""
    key = f"{seed}/{epoch}".encode()
    return sorted(range(n_rows), key=lambda row: hashlib.blake2b(row.to_bytes(8, "big"), key=key, digest_size=16).digest())
