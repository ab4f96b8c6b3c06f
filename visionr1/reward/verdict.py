"""What a comparison ends with, and what it may ask."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

Ask = Callable[[str, str], "bool | None"]
"""Compares two mathematical expressions, (answer, truth). None: not known here."""


class Verdict(NamedTuple):
    """Whether an answer is right (None: that takes an `Ask` that knows), and the rule that says so, by name (docs/reward.md)."""

    right: bool | None
    rule: str


def every(verdicts: Iterable[bool | None]) -> bool | None:
    """False if one is, else None if one is, else True."""
    seen = list(verdicts)
    return False if False in seen else None if None in seen else True
