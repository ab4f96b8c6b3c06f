"""What the paper prints of its own models, in per cent (arXiv 2503.06749v4, tables 1, 3, 5 and 6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

AVERAGES: Final[dict[str, tuple[str, ...]]] = {
    "average of 3": ("mathvista", "mathverse", "mm-math"),
    "average of 4": ("mathvista", "mathverse", "mm-math", "dynamath"),
    "average of 5": ("mathvista", "mathverse", "mathverse Vision Only", "mm-math", "dynamath"),
}
"""The three averages in use: tables 3 and 5 take the first, table 1 the second, the authors' README the third."""

PAPER: Final[dict[str, dict[str, float]]] = {
    "Qwen2.5-VL-7B (table 1)": {
        "mathvista": 68.1,
        "mathverse": 46.7,
        "mm-math": 34.1,
        "dynamath": 50.7,
        "mathvista GEO": 66.9,
        "mathvista ALG": 68.7,
        "mathvista GPS": 66.8,
        "mathvista MWP": 76.9,
        "mathverse Vision Only": 40.2,
    },
    "Vision-R1-7B (table 1)": {
        "mathvista": 73.5,
        "mathverse": 52.4,
        "mm-math": 40.2,
        "dynamath": 56.3,
        "mathvista GEO": 80.3,
        "mathvista ALG": 79.0,
        "mathvista GPS": 83.2,
        "mathvista MWP": 80.6,
        "mathverse Vision Only": 46.7,
    },
    "Vision-R1-32B (table 1)": {"mathvista": 76.4, "mathverse": 62.1, "mm-math": 55.3, "dynamath": 65.6},
    "Vision-R1-72B (table 1)": {"mathvista": 78.2, "mathverse": 63.2, "mm-math": 59.3, "dynamath": 66.4},
    "Vision-R1-Zero (table 6)": {"mathvista": 70.6, "mathverse": 52.6, "mm-math": 28.8},
    "16Kx4, 16Kx4: Vision-R1-Long (table 5)": {"mathvista": 70.3, "mathverse": 36.8, "mm-math": 36.1},
    "4Kx16, 4Kx16 (table 5)": {"mathvista": 72.6, "mathverse": 51.4, "mm-math": 39.0},
    "4Kx16, 8Kx16 (table 5)": {"mathvista": 72.9, "mathverse": 53.5, "mm-math": 39.5},
    "4Kx16, 6Kx12, 8Kx8 (table 5)": {"mathvista": 73.0, "mathverse": 52.6, "mm-math": 39.8},
    "16Kx16, 16Kx16 (table 5)": {"mathvista": 71.1, "mathverse": 36.5, "mm-math": 36.1},
    "Vision-R1-CI (table 3)": {"average of 3": 44.5},
}


def averages(values: Mapping[str, float]) -> dict[str, float]:
    """Those of the three averages for which all sets are there."""
    return {
        name: sum(values[one] for one in sets) / len(sets)
        for name, sets in AVERAGES.items()
        if all(one in values for one in sets)
    }
