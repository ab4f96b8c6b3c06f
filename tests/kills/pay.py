"""A reward that pays any model something else for every completion, so that every step trains: the share of digits.

The hard reward gives a barely trained model 0 for all, and runs of zeros are equal whatever was lost.
"""

REWARD_NAME = "digits"
REWARD_TYPE = "batch"


def share(rows: list[dict]) -> list[dict[str, float]]:
    parts = [sum(letter.isdigit() for letter in row["response"]) / (1 + len(row["response"])) for row in rows]
    return [{"overall": part, "format": part, "accuracy": part} for part in parts]
