"""What one check found, as a line and as JSON."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from visionr1.data.badrow import one_line
from visionr1.errors import BadInput

State = Literal["good", "bad", "not seen"]


@dataclass(frozen=True)
class Finding:
    """The result of a check.

    Attributes:
        detail: what was found, in words.
        remedy: what to do about a bad result; empty for the others.
        figures: what was measured; each key ends with its unit.
    """

    check: str
    state: State
    detail: str
    remedy: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)

    def line(self) -> str:
        """For people."""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.state:8}  {self.check:10}  {self.detail}{remedy}"

    def to_json(self) -> dict[str, Any]:
        """All fields, as plain values."""
        return asdict(self)


def good(check: str, detail: str, **figures: float) -> Finding:
    """A check that found what it should."""
    return Finding(check, "good", detail, figures=figures)


def bad(check: str, detail: str, remedy: str, **figures: float) -> Finding:
    """A check that found something that a run would suffer from."""
    return Finding(check, "bad", detail, remedy, figures)


def not_seen(check: str, why: str) -> Finding:
    """A check that could not look."""
    return Finding(check, "not seen", why)


def guarded(check: str, look: Callable[[], Finding]) -> Finding:
    """The finding of `look`; an error in it is a bad finding, so that the next check is made all the same."""
    try:
        return look()
    except BadInput as error:  # its message has the remedy
        return bad(check, one_line(str(error)), "")
    except Exception as error:
        # Whatever a library raises on a strange machine is what the check found; the traceback is for the log.
        traceback.print_exc()
        return bad(check, one_line(f"{type(error).__name__}: {error}"), "visionr1 doctor --log FILE writes more about it")


def closing(findings: Iterable[Finding]) -> str:
    """The last line: how many of each."""
    count = Counter(finding.state for finding in findings)
    return f"{count['good']} good, {count['bad']} bad, {count['not seen']} not seen"
