"""The one row type that everything after the readers sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

IMAGE_MARK: Final = "<image>"
MAX_IMAGES: Final = 8
"""Most images of one problem; an engine reserves room for as many."""


@dataclass(frozen=True)
class Row:
    """A problem. `problem` has IMAGE_MARK once for each of `images` (encoded files, as read).

    `id` is stable between runs: it names the source and the row's place or own id. `options` are the texts of a multiple choice
    in the order of its letters, for the grader; () if the row has none.
    """

    id: str
    problem: str
    images: tuple[bytes, ...]
    answer: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sample:
    """A chain of thought for SFT: `response` is the whole assistant turn, think and answer blocks included."""

    id: str
    problem: str
    images: tuple[bytes, ...]
    response: str
