"""A reward that differs between any two completions that differ, so that every step trains: a checksum of the response.

The hard reward gives a barely trained model 0 for all, and runs of zeros are equal whatever was lost.
"""

from typing import Any

REWARD_NAME = "checksum"
REWARD_TYPE = "batch"


def checksum(rows: list[dict[str, Any]]) -> list[dict[str, float]]:
    parts = [sum(map(ord, row["response"])) % 11 / 10 for row in rows]
    return [{"overall": part, "format": part, "accuracy": part} for part in parts]
