"""Numbers as people read them. A dash means that the number is not known."""

from __future__ import annotations


def percent(value: float | None) -> str:
    """A fraction in percent with one decimal, or a dash for None."""
    return "–" if value is None else f"{100 * value:.1f} %"


def count(value: float | None) -> str:
    """A number without decimals, or a dash for None."""
    return "–" if value is None else f"{value:,.0f}"


def duration(seconds: float | None) -> str:
    """12 s, 3 min 20 s, 5 h 04 min."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def gibibytes(value: int | None) -> str:
    """Bytes in GiB with one decimal, or a dash for None."""
    return "–" if value is None else f"{value / 2**30:.1f} GiB"
