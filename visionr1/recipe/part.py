"""What all parts of the recipe share."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field


class Part(BaseModel):
    """One mapping of the recipe. An unknown key is an error, it is never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False, str_max_length=20_000)


MOST_TOKENS: Final = 1 << 24
"""No model's context is longer."""
MOST_PIXELS: Final = 1 << 30
MOST_STEPS: Final = 10_000_000
MOST_STAGES: Final = 32

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Temperature = Annotated[float, Field(ge=0.0, le=100.0)]
