"""How a response was read and compared, for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from visionr1.errors import printable
from visionr1.reward.answer import read_sides
from visionr1.reward.hfrrf import Grade

_LONGEST: Final = 200


def explained(title: str, grade: Grade, truth: str, options: Sequence[str]) -> str:
    """A block of lines: the verdict and its rule, the format, and both sides as written and as read."""
    given, true = read_sides(grade.answer or "", truth, options)
    lines = [
        f"{title}: {grade.reason}" + (f" (rule: {grade.rule})" if grade.rule else ""),
        f"  reward   {grade.overall:g} = format {grade.format:g}, accuracy {grade.accuracy:g}",
        "  answer   none was found" if grade.answer is None else f"  answer   {_shown(grade.answer)}",
        *([] if grade.answer is None else [f"  read as  {_shown(given)}"]),
        f"  truth    {_shown(truth)}",
        f"  read as  {_shown(true) or 'nothing: no answer can be right'}",
    ]
    return "\n".join(lines)


def _shown(text: str) -> str:
    """One line without what a terminal would obey."""
    line = printable(text[:_LONGEST])
    return line if len(text) <= _LONGEST else f"{line}..."
