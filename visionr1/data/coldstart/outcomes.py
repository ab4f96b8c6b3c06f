"""The outcomes of all problems, on disk until they are written out: memory holds their counts, and where each of them lies."""

from __future__ import annotations

import json
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, Self

from visionr1.data.coldstart.choose import Dropped, Outcome
from visionr1.data.coldstart.filters import Kept, Rejection, Rule

_EXCERPT: Final = 300


class Outcomes:
    """A file without a name in the temporary folder, and counters. `keep_texts` keeps the texts of dropped samples, too."""

    def __init__(self, problems: int, keep_texts: bool) -> None:
        self.kept = self.several_images = 0
        self.dropped: Counter[Rule] = Counter()
        self._first: dict[Rule, tuple[int, str, str]] = {}
        self._keep_texts = keep_texts
        self._places = array("q", [-1]) * problems
        self._file = tempfile.TemporaryFile(prefix="visionr1-outcomes-")  # noqa: SIM115 - closed by __exit__
        self._end = 0

    def __len__(self) -> int:
        return self.kept + self.dropped.total()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, outcome: Outcome) -> None:
        """Counts an outcome and keeps it."""
        if isinstance(outcome.result, Kept):
            self.kept += 1
            self.several_images += outcome.images > 1
        else:
            self._count(outcome.index, outcome.row_id, outcome.result)
        line = json.dumps(_to_json(outcome, self._keep_texts)).encode() + b"\n"
        self._places[outcome.index] = self._end
        self._file.write(line)
        self._end += len(line)

    def drop(self, outcome: Outcome, rejection: Rejection) -> None:
        """Counts a chain as dropped that was kept until it was compared with the others."""
        self.kept -= 1
        self._count(outcome.index, outcome.row_id, rejection)

    def _count(self, index: int, row_id: str, rejection: Rejection) -> None:
        self.dropped[rejection.rule] += 1
        first = self._first.get(rejection.rule)
        if first is None or index < first[0]:
            self._first[rejection.rule] = (index, row_id, rejection.excerpt[:_EXCERPT])

    def examples(self) -> dict[Rule, tuple[str, str]]:
        """For each rule the first problem that it dropped, by its place, and what gave it away."""
        return {rule: (row_id, excerpt) for rule, (_, row_id, excerpt) in sorted(self._first.items(), key=lambda one: one[1])}

    def __iter__(self) -> Iterator[Outcome]:
        """All outcomes in the order of the problems."""
        for place in self._places:
            if place >= 0:
                self._file.seek(place)
                yield _from_json(json.loads(self._file.readline()))


def _to_json(outcome: Outcome, keep_texts: bool) -> dict[str, Any]:
    dropped = outcome.dropped if keep_texts else ()
    texts = [vars(one) | {"rejection": vars(one.rejection)} for one in dropped]
    return vars(outcome) | {"result": vars(outcome.result), "dropped": texts}


def _from_json(plain: dict[str, Any]) -> Outcome:
    result = plain["result"]
    dropped = tuple(Dropped(one["sample"], Rejection(**one["rejection"]), one["text"]) for one in plain["dropped"])
    return Outcome(**plain | {"result": Rejection(**result) if "rule" in result else Kept(**result), "dropped": dropped})
