"""Which responses the report shows, and how they are cut into pieces for reading."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from visionr1.data.reflection import REFLECTION
from visionr1.report.collect import PhaseRecord
from visionr1.rundir.scores import Sample

_HEAD, _TAIL = 1600, 600
_PIECES: Final = re.compile(r"(</?think>|</?answer>)")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]+={0,2}")


@dataclass(frozen=True)
class Piece:
    """A part of a response. `kind` is think, answer, text, tag, word (of reflection) or gap (left out)."""

    kind: str
    text: str


@dataclass(frozen=True)
class Answered:
    """One phase's response to a problem. `relative_length` is its length divided by that of the longest response shown."""

    phase: PhaseRecord
    right: bool
    tokens: int
    truncated: bool
    answer: str | None
    relative_length: float
    pieces: list[Piece]


@dataclass(frozen=True)
class Problem:
    """A problem with its pictures (base64 PNG) and what each phase answered."""

    id: str
    text: str
    truth: str
    images: list[str]
    answers: list[Answered]


def choose(scored: Sequence[PhaseRecord], at_most: int) -> list[str]:
    """Ids of the problems to show. Problems that more phases can show come first.

    Problems are grouped by which phases were right, and taken from the groups in turn. So both right and wrong answers
    appear if there are any.
    """
    ids = {id_: None for phase in scored for id_ in phase.samples.shown}
    outcomes: dict[tuple[bool | None, ...], list[str]] = {}
    for id_ in ids:
        rows = [phase.samples.shown.get(id_) for phase in scored]
        outcomes.setdefault(tuple(None if row is None else row.accuracy > 0 for row in rows), []).append(id_)
    queues = sorted(outcomes.items(), key=lambda item: item[0].count(None))
    chosen: list[str] = []
    while len(chosen) < at_most and any(queue for _, queue in queues):
        chosen += [queue.pop(0) for _, queue in queues if queue]
    return chosen[:at_most]


def problems(scored: Sequence[PhaseRecord], at_most: int = 8) -> list[Problem]:
    """The chosen problems with the responses of all phases side by side."""
    found = []
    for id_ in choose(scored, at_most):
        rows = [(phase, phase.samples.shown[id_]) for phase in scored if id_ in phase.samples.shown]
        longest = max(1, *(row.tokens for _, row in rows))
        answers = [_answered(phase, row, longest) for phase, row in rows]
        first = rows[0][1]
        # An address that is not plain base64 could load something else.
        images = [image for image in first.images if _BASE64.fullmatch(image)]
        found.append(Problem(id_, first.problem.replace("<image>", "").strip(), first.truth, images, answers))
    return found


def _answered(phase: PhaseRecord, row: Sample, longest: int) -> Answered:
    return Answered(
        phase=phase,
        right=row.accuracy > 0,
        tokens=row.tokens,
        truncated=row.finish_reason == "length",
        answer=row.answer,
        relative_length=row.tokens / longest,
        pieces=shorten(pieces(row.response)),
    )


def pieces(response: str) -> list[Piece]:
    """Cuts a response at its tags and at words of reflection, so that each can have its own look."""
    kind, found = "text", []
    for text in _PIECES.split(response):
        if _PIECES.fullmatch(text):
            kind = "text" if text.startswith("</") else text.strip("<>")
            found.append(Piece("tag", text))
        else:
            found += _with_words(text, kind)
    return found


def _with_words(text: str, kind: str) -> list[Piece]:
    found, end = [], 0
    for match in REFLECTION.finditer(text):
        found += [Piece(kind, text[end : match.start()]), Piece("word", match[0])]
        end = match.end()
    return [piece for piece in [*found, Piece(kind, text[end:])] if piece.text]


def shorten(found: list[Piece]) -> list[Piece]:
    """The beginning and the end of a long response, with a gap that says how much is left out."""
    total = sum(len(piece.text) for piece in found)
    if total <= _HEAD + _TAIL + 200:
        return found
    head, tail, start = [], [], 0
    for piece in found:
        if start < _HEAD:
            head.append(Piece(piece.kind, piece.text[: _HEAD - start]))
        if start + len(piece.text) > total - _TAIL:
            tail.append(Piece(piece.kind, piece.text[max(0, total - _TAIL - start) :]))
        start += len(piece.text)
    return [*head, Piece("gap", f"{total - _HEAD - _TAIL:,} characters left out"), *tail]
