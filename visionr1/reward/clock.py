"""Clock times: `6:30` is a time and no ratio, because its minutes have two digits from 00 to 59."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_HOURS: Final = r"(?P<early>上午|早上|凌晨|下午|晚上|中午)? ?(?P<hours>[01]?\d|2[0-4]) ?"
_HALF: Final = r" ?(?P<half>[AaPp]\.?[Mm]\.?)?"
_CLOCK: Final = re.compile(rf"{_HOURS}[:点时] ?(?P<minutes>[0-5]\d)(?::(?P<seconds>[0-5]\d))?分?{_HALF}")
_FULL_HOUR: Final = re.compile(rf"{_HOURS}(?:o'? ?clock|点整?|(?=[AaPp]\.?[Mm])){_HALF}")
_FRACTION: Final = re.compile(r"(\d+)/(\d+)|\\frac\{(\d+)\}\{(\d+)\}")
_HALVES: Final = {"上午": "a", "早上": "a", "凌晨": "a", "下午": "p", "晚上": "p", "中午": "p"}
_DAY: Final = 24 * 3600
_HALF_DAY: Final = 12 * 3600


@dataclass(frozen=True)
class Clock:
    """Seconds after midnight as written, and "a", "p" or "" (a.m., p.m., not given)."""

    seconds: int
    half: str

    @property
    def exact(self) -> int:
        """Seconds after midnight: 3:15 p.m. is 15:15."""
        if not self.half:
            return self.seconds % _DAY
        return self.seconds % _HALF_DAY + (_HALF_DAY if self.half == "p" else 0) if self.seconds < 13 * 3600 else self.seconds


def read_clock(text: str) -> Clock | None:
    """A time of day; None for anything else."""
    found = _CLOCK.fullmatch(text) or _FULL_HOUR.fullmatch(text)
    if found is None:
        return None
    part = found.groupdict()
    seconds = int(part["hours"]) * 3600 + int(part.get("minutes") or 0) * 60 + int(part.get("seconds") or 0)
    return Clock(seconds, (part["half"] or "")[:1].lower() or _HALVES.get(part["early"] or "", ""))


def same_time(given: str, true: str) -> bool | None:
    """Whether both are the same time; None if the truth is no time.

    An answer may say a.m. or p.m. where the truth does not, but not leave it out where the truth does. `7/30` is the truth 7:30
    with its two numbers as they stand; a fraction of the same value is not.
    """
    clock, true_clock = read_clock(given), read_clock(true)
    if true_clock is None:
        return None
    if clock is None:
        fraction = _FRACTION.fullmatch(given)
        return fraction is not None and [part for part in fraction.groups() if part] == true.split(":")
    if true_clock.half or (clock.half and true_clock.seconds >= _HALF_DAY + 3600):
        # Written without a.m. or p.m., only 0:00 to 0:59 and 13:00 to 24:00 say which half of the day they mean.
        return clock.exact == true_clock.exact and bool(clock.half or not 3600 <= clock.seconds < _HALF_DAY + 3600)
    return clock.seconds == true_clock.seconds
