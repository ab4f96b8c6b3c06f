"""Which `resources` of a container the operator can count with. Pure.

The definition leaves `resources` open, so that nothing has looked at them before. `int()` of a quantity such as 1e999999999 would
hold up every thread of the operator.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from kubernetes.utils.quantity import parse_quantity

from visionr1.errors import printable

_QUANTITY: Final = re.compile(r"[+-]?([0-9]+([.][0-9]*)?|[.][0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?")
_LONGEST: Final = 32
_MOST: Final = 2**60
_SHOWN: Final = 40
_PARTS: Final = ("requests", "limits")


def odd_resources(resources: Mapping[str, Any]) -> str | None:
    """What is wrong with the resources of a container, in one line, or None."""
    for part, amounts in resources.items():
        if part not in _PARTS:
            return f"{_shown(part)} is unknown: a container has requests and limits"
        if not isinstance(amounts, Mapping):
            return f"{part} must be names with amounts, such as {{memory: 64Gi}}, not {_shown(amounts)}"
        for name, amount in amounts.items():
            if not _is_quantity(amount):
                return f"{part}.{_shown(name)}: {_shown(amount)} is no amount from 0 to 2^60; write it as 4 or 64Gi"
    return None


def _is_quantity(amount: Any) -> bool:
    """Whether it is a quantity of Kubernetes, from 0 to less than 2^60."""
    if isinstance(amount, bool):
        return False
    if isinstance(amount, int):
        return 0 <= amount < _MOST
    text = str(amount)
    return len(text) <= _LONGEST and _QUANTITY.fullmatch(text) is not None and 0 <= parse_quantity(text) < _MOST


def _shown(value: Any) -> str:
    return printable(str(value)[:_SHOWN])
