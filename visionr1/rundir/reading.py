"""What all readers of a run directory share: limited sizes, checked types, finite numbers. Nothing there is trusted."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeVar

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from visionr1.errors import BadInput
from visionr1.storage import Store

SMALL: Final = 1 << 20
"""Bytes that are enough for every file that is one JSON value, but for a manifest."""
_LARGEST: Final = 1e100
"""No value of a run is larger, and sums and squares of such values still are numbers."""

T = TypeVar("T")


def number(value: Any) -> float | None:
    """The value as a float, or None for what is no number, not finite, or larger than any value of a run can be."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= _LARGEST else None


def number_or_null(value: Any) -> float | None:
    """As `number`, but text, truth values and the like, which nobody has measured, are a ValueError."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError("neither a number nor null")
    return number(value)


Number = Annotated[float | None, BeforeValidator(number_or_null)]
"""A number; NaN, infinities and what is too large to count with are None."""
Finite = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST)]
Count = Annotated[int, Field(ge=0, lt=1 << 63)]
"""How many of something."""
Step = Annotated[int, Field(ge=0, lt=10**9)]
"""A global step."""
Time = Annotated[float, Field(ge=0, le=253_402_300_799)]
"""Unix seconds, up to the year 9999."""


def read_file(store: Store, key: str, most: int = SMALL) -> bytes:
    """A file of at most `most` bytes.

    Raises:
        NotFound: it is not there.
        BadInput: it is larger, or no file.
    """
    data = store.read_bytes(key, most + 1)
    if len(data) > most:
        raise BadInput(f"{store.url}/{key}: larger than {most >> 20} MiB, which no run writes; find out what writes to it")
    return data


def read_json(store: Store, key: str, shape: TypeAdapter[T], fault: str, most: int = SMALL) -> T:
    """A file that is one JSON value of the given shape.

    Args:
        fault: the message for a file of another kind: what it is not, and what to do.
        most: bytes that it may have.

    Raises:
        NotFound: it is not there.
        BadInput: it has another shape, is larger, or is no file.
    """
    try:
        return shape.validate_json(read_file(store, key, most))
    except ValidationError:
        raise BadInput(f"{store.url}/{key}: {fault}") from None
