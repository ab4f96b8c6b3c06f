"""What a response is worth, as the recipe describes it."""

from __future__ import annotations

from pydantic import Field, model_validator

from visionr1.recipe.values import Part


class Reward(Part):
    """The hard reward (section 3.4), or your own."""

    function: str = Field(
        "hfrrf",
        description="`hfrrf` (1 if format and answer are right, else 0), `zero` (half for the format, half for the answer), or "
        "your own as file.py:function.",
    )
    sha256: str | None = Field(
        None,
        description="SHA-256 of the file of your own function. With it, no other file is loaded, and the file can import only "
        "what is installed. A cluster needs it.",
        pattern="^[0-9a-f]{64}$",
    )
    seconds_per_answer: float = Field(
        5.0, gt=0, le=86_400, description="Time limit for grading one answer. An answer that takes longer scores 0."
    )
    processes: int = Field(4, ge=1, le=1024, description="Grading processes.")

    @model_validator(mode="after")
    def _hash_of_a_file(self) -> Reward:
        if self.sha256 is not None and self.file is None:
            raise ValueError(f"sha256 is only for a function of your own, and function is {self.function}; remove it")
        return self

    @property
    def file(self) -> str | None:
        """Path of the user's own file; None for a built-in function."""
        return self.function.rpartition(":")[0] or None
