"""Writes every generated file of the repository: `make generate`. Not part of the installed package.

`files.py` lists what is written. The sources that people edit are here (`dashboards/`, `alerts.yaml`) or are named at the
top of each generated file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
"""The checkout."""
CHART: Final = ROOT / "charts/visionr1-ptst"


def made_from(source: str) -> str:
    """The line at the top of a generated file, without its comment marks."""
    return f"Made by `make generate` from {source}; edit that."
