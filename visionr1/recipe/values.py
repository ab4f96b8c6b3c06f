"""What all parts of a recipe share: their base class, the largest values, kinds of numbers."""

from __future__ import annotations

from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MOST_TOKENS: Final = 1 << 24
"""No model's context is longer."""
MOST_PIXELS: Final = 1 << 30
MOST_STEPS: Final = 10_000_000
MOST_STAGES: Final = 32
MOST_COMPLETIONS: Final = 1 << 17
"""In a step; the paper has 8,192. The plan of a run counts each of them."""

KEYS_OF_PROVIDERS: Final = frozenset(
    f"{provider}_API_KEY"
    for provider in ("ANTHROPIC", "ARK", "DASHSCOPE", "DEEPSEEK", "GEMINI", "GROQ", "MISTRAL", "MOONSHOT", "OPENAI", "OPENROUTER")
)
"""Variables in which people have a provider's API key anyway."""

DEMO_TEACHER: Final = "demo://teacher"
"""The address of the demo's scripted teacher."""


def _address(url: str) -> str:
    """The address of a server that answers; ValueError for anything else."""
    if url == DEMO_TEACHER:
        return url
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query or parts.fragment:  # not shown: it may have a key in it
        raise ValueError("an address must not have a user name, a password or a key in it; put the key into api_key_env")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url} is no address: begin it with http:// or https://, such as http://localhost:8000/v1")
    if parts.path.rstrip("/").endswith("/completions"):
        raise ValueError(f"{url} is the address of one kind of request: end it before /chat/completions")
    return url


Address = Annotated[str, AfterValidator(_address)]
"""Where an OpenAI-compatible server is."""
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Temperature = Annotated[float, Field(ge=0.0, le=100.0)]
Bound = Annotated[float, Field(gt=0, le=1e6)]
"""A limit for a norm or a ratio."""
ZeroStage = Literal["auto", 1, 2, 3]


class Part(BaseModel):
    """One mapping of the recipe. An unknown key is an error, it is never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False, str_max_length=20_000)
