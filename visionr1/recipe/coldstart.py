"""The teachers of the cold start, as the recipe describes them."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from visionr1.recipe.values import KEYS_OF_PROVIDERS, MOST_TOKENS, Address, Part, Temperature


class Teacher(Part):
    """One model behind an OpenAI-compatible endpoint."""

    base_url: Address = Field(
        description="Endpoint, such as http://localhost:8000/v1; /v1 may be left out. `demo://teacher` is the demo's own."
    )
    model: str = Field(description="Model name as the endpoint knows it.")
    api_key_env: str | None = Field(
        None,
        description="Name of the environment variable with the API key: VISIONR1_ and more, or a provider's own, such as "
        "OPENAI_API_KEY. Never write the key itself into a recipe.",
    )
    temperature: Temperature = Field(0.6, description="Sampling temperature (not published, advised for DeepSeek-R1).")
    max_tokens: int = Field(
        16_384, ge=1, le=MOST_TOKENS, description="Longest reply in tokens (not published, equal to sft.cutoff_tokens)."
    )

    @field_validator("api_key_env")
    @classmethod
    def _a_variable_for_keys(cls, name: str | None) -> str | None:
        """A recipe must not be able to send any other secret of its pod to an endpoint."""
        if name is not None and name not in KEYS_OF_PROVIDERS and not re.fullmatch("VISIONR1_[A-Z0-9_]+", name):
            raise ValueError(
                f"{name[:60]!a} is not a variable for API keys: take one that begins with VISIONR1_, "
                f"such as VISIONR1_TEACHER_KEY, or one of {', '.join(sorted(KEYS_OF_PROVIDERS))}"
            )
        return name
