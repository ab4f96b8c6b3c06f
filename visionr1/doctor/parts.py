"""The checks that are made in processes of their own, by process."""

from __future__ import annotations

from typing import Final

PARTS: Final = {
    "one": ("model", "start", "sleep", "greedy", "parity", "update", "save", "speed"),
    "resume": ("resume",),
    "pair": ("pair",),
}
"""Names of methods of `visionr1.doctor.trial.Trial`, in their order."""
