"""Problems that a model will be scored on must not be among those that it learns from."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from visionr1.data.badrow import BadRow
from visionr1.data.images import BadImage, open_image
from visionr1.data.readers import load_problems
from visionr1.data.rows import IMAGE_MARK, Row, Sample
from visionr1.progress import progress
from visionr1.recipe.source import Source

LONG_RUN: Final = 13
"""Words in a row that two questions do not share by chance, as GPT-3's authors take it (arXiv 2005.14165, appendix C)."""
SHORT_RUN: Final = 3
SIMILAR: Final = 0.5
"""Questions are similar if they share this part of the runs of SHORT_RUN words of the shorter one."""
SAME_PICTURE: Final = 10
"""Bits of 256 in which the hashes of one picture in two sizes or encodings differ at most."""
_SIDE: Final = 16
_WORD: Final = re.compile(r"\w+")

Hash = NDArray[np.uint64]


class EvaluationSets:
    """The pictures and questions of the evaluation sets that the recipe names. Without any, nothing is found."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._ids: list[str] = []
        self._questions: list[frozenset[tuple[str, ...]]] = []
        self._long: dict[int, str] = {}
        self._hashes = np.zeros((0, 4), dtype=np.uint64)
        self._owners = np.zeros(0, dtype=np.int64)
        for path in paths:
            self.add(path, load_problems(Source(path=path)))

    def add(self, name: str, rows: Sequence[Row] | Sequence[Sample]) -> None:
        """Adds the rows of a data set, with a progress bar; `name` is for messages."""
        hashes: list[Hash] = []
        owners: list[int] = []
        with progress(f"reading {name}", len(rows)) as advance:
            for index in range(len(rows)):
                advance(1)
                try:
                    row = rows[index]
                    pictures = [picture_hash(image) for image in row.images]
                except (BadRow, BadImage):
                    continue  # such a row is neither scored nor trained on
                owners.extend([len(self._ids)] * len(pictures))
                hashes.extend(pictures)
                self._add(name, row)
        self._hashes = np.concatenate([self._hashes, *(one[None] for one in hashes)])
        self._owners = np.concatenate([self._owners, np.array(owners, dtype=np.int64)])

    def _add(self, path: str, row: Row | Sample) -> None:
        words = question_words(row)
        self._ids.append(f"{path} {row.id}")
        self._questions.append(frozenset(_runs(words, SHORT_RUN)))
        for run in _runs(words, LONG_RUN) if len(words) >= LONG_RUN else ():
            self._long.setdefault(hash(run), self._ids[-1])

    async def find(self, row: Row) -> str | None:
        """What a row shares with which problem of the evaluation sets; None if it shares nothing."""
        return await asyncio.to_thread(self.look, row) if self._ids else None

    def look(self, row: Row) -> str | None:
        """As `find`. Raises BadRow for a picture that cannot be read."""
        words = question_words(row)
        if len(words) >= LONG_RUN:
            for run in _runs(words, LONG_RUN):
                if hash(run) in self._long:
                    return f"{LONG_RUN} words in a row of {self._long[hash(run)]}: {' '.join(run)}"
        runs = frozenset(_runs(words, SHORT_RUN))
        for image in row.images:
            try:
                picture = picture_hash(image)
            except BadImage as error:
                raise BadRow(row.id, "image unreadable", str(error)) from None
            bits = np.bitwise_count(self._hashes ^ picture).sum(axis=1)
            for place in self._owners[bits <= SAME_PICTURE]:
                theirs = self._questions[place]
                if len(runs & theirs) >= SIMILAR * min(len(runs), len(theirs)):
                    return f"the picture of {self._ids[place]}, and a similar question"
        return None


def question_words(row: Row | Sample) -> list[str]:
    """The words of a question in small letters."""
    return _WORD.findall(row.problem.replace(IMAGE_MARK, " ").lower())


def _runs(words: Sequence[str], length: int) -> Iterator[tuple[str, ...]]:
    """All runs of `length` words; a shorter text is one run."""
    return (tuple(words[place : place + length]) for place in range(max(1, len(words) - length + 1)))


def picture_hash(image: bytes) -> Hash:
    """A difference hash, uint64 [4]: 256 bits that say where a small grey copy of the picture grows lighter to the right.

    It changes little with size, encoding and colour. Raises BadImage.
    """
    small = open_image(image).convert("L").resize((_SIDE + 1, _SIDE))
    grey = np.asarray(small, dtype=np.int16)
    bits: NDArray[np.bool_] = grey[:, 1:] > grey[:, :-1]
    return np.packbits(bits).view(np.uint64)
