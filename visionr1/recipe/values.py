"""What all parts of a recipe share: their base class, the largest values, kinds of numbers."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

MOST_TOKENS: Final = 1 << 24
"""No model's context is longer."""
MOST_PIXELS: Final = 1 << 30
MOST_STEPS: Final = 10_000_000
MOST_STAGES: Final = 32

KEYS_OF_PROVIDERS: Final = frozenset(
    f"{provider}_API_KEY"
    for provider in ("ANTHROPIC", "ARK", "DASHSCOPE", "DEEPSEEK", "GEMINI", "GROQ", "MISTRAL", "MOONSHOT", "OPENAI", "OPENROUTER")
)
"""Variables in which people have a provider's API key anyway."""

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Temperature = Annotated[float, Field(ge=0.0, le=100.0)]
Bound = Annotated[float, Field(gt=0, le=1e6)]
"""A limit for a norm or a ratio."""
ZeroStage = Literal["auto", 1, 2, 3]


class Part(BaseModel):
    """One mapping of the recipe. An unknown key is an error, it is never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False, str_max_length=20_000)
