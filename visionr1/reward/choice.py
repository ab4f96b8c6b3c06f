"""The letters of a multiple choice: `B`, `(B)`, `B. 3π`, and the options that a data row may have.

Without the options a leading letter alone decides: `B. Container A` is B. The text after it may be any option's, so it can only
spoil the answer by naming a second choice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from visionr1.data.options import LETTERS
from visionr1.reward.maths import same_spelling
from visionr1.reward.text import canonical

_ALONE: Final = re.compile(r"[(\[]?([A-Ja-h])[)\]]?[.:]?")
_LABELLED: Final = re.compile(r"(?:[(\[]([A-Ja-h])[)\]](?:[.:] ?| )|([A-J]) ?[.:)] ?|([a-h])[.)] )(\S.*)")
_NEXT: Final = re.compile(r"(?:^|[,;/|&(]|\b(?:or|and|not)\b) ?[(\[]?([A-J])[)\].:](?!\d)")
"""A second label where a second answer would begin: `..., C. 4`; not `point (C)`."""
_PAIR: Final = re.compile(r"\b(?i:either|neither|both) [A-J] (?:or|nor|and) [A-J]\b")
_HEDGES: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r"\b(?i:or|not|no|nor|but|wait|maybe|perhaps|actually|sorry|rather|instead)\b,? ?(?:\w+ )?[(\[]?([A-J])\b(?!')",
        r"(?:[;/|]|->|=>|→|⇒|\\(?:to|rightarrow|Rightarrow)) ?[(\[]?([A-J])[)\]]?$",
        r"(?:选|答案|应为|而是)[是为:]? ?[(\[]?([A-J])(?![A-Za-z])",
        r"(?<![A-Z])(?<![A-Z] )[,] ?[(\[]?([A-J])[)\]]?$",
        r"\b(?i:answer|option|choice)s?\b(?: is| are|:)? ?[(\[]?([A-J])\b",
        r"\b([A-J]) (?:(?:is|are) (?:also |too )?(?:right|correct|better|best|true|wrong|possible|the answer)|too|also|or)\b",
    )
)


def given_choice(text: str) -> tuple[str, str]:
    """(letter, text after it) of an answer such as `B` or `B. 3π`; ("", "") of anything else and of hedges (`B. 3 or C`)."""
    letter, value = read_choice(text)
    return ("", "") if names_another(letter, value) else (letter, value)


def true_choice(text: str) -> tuple[str, str]:
    """(letter, text after it) of a true answer, which does not hedge: `A. Point D` is A."""
    letter, value = read_choice(text)
    return ("", "") if any(other != letter for other in _NEXT.findall(value)) else (letter, value)


def read_choice(text: str) -> tuple[str, str]:
    """(letter, text after it), unchanged. ("", "") if the text does not begin with a single letter."""
    alone = _ALONE.fullmatch(text)
    if alone:
        return alone[1].upper(), ""
    labelled = _LABELLED.fullmatch(text)
    if labelled is None:
        return "", ""
    return (labelled[1] or labelled[2] or labelled[3]).upper(), canonical(labelled[4])


def names_another(letter: str, value: str) -> bool:
    """Whether the text after a letter names a second choice."""
    alone = _ALONE.fullmatch(value)
    if alone:
        return alone[1].upper() != letter
    value = _PAIR.sub("", value)
    return any(other != letter for pattern in (_NEXT, *_HEDGES) for other in pattern.findall(value))


def true_place(true: str, options: Sequence[str]) -> int | None:
    """The place of the true answer, a letter or an option's text, among the options (canonical texts); None if it has none."""
    letter, _ = true_choice(true)
    if letter:
        place = LETTERS.index(letter)
        return place if place < len(options) else None
    same = [place for place, text in enumerate(options) if same_spelling(text, true)]
    return same[0] if len(same) == 1 else None


def is_letter(text: str) -> bool:
    """Whether an option's text is but a letter, as where the options are in the picture."""
    return _ALONE.fullmatch(text) is not None
