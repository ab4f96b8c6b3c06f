"""The teachers and the filters of the cold start, as the recipe describes them."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from visionr1.recipe.values import KEYS_OF_PROVIDERS, MOST_TOKENS, Address, Part, Probability, Temperature


def _variable_for_keys(name: str | None) -> str | None:
    """A recipe must not be able to send any other secret of its pod to an endpoint."""
    if name is not None and name not in KEYS_OF_PROVIDERS and not re.fullmatch("VISIONR1_[A-Z0-9_]+", name):
        raise ValueError(
            f"{name[:60]!a} is not a variable for API keys: take one that begins with VISIONR1_, "
            f"such as VISIONR1_TEACHER_KEY, or one of {', '.join(sorted(KEYS_OF_PROVIDERS))}"
        )
    return name


KeyVariable = Annotated[str | None, AfterValidator(_variable_for_keys)]


class Endpoint(Part):
    """One OpenAI-compatible server that answers as a teacher."""

    base_url: Address = Field(description="Address, such as http://localhost:8000/v1. Without a path, /v1 is added.")
    api_key_env: KeyVariable = Field(None, description="Name of the environment variable with this endpoint's API key.")
    weight: float = Field(1.0, gt=0, le=1e6, description="Share of the requests that this endpoint gets, beside the others.")
    requests_per_minute: float | None = Field(None, gt=0, le=1e12, description="Most requests per minute. null sets no limit.")
    tokens_per_minute: float | None = Field(
        None, gt=0, le=1e12, description="Most tokens per minute, of prompts and replies together. null sets no limit."
    )


class Teacher(Part):
    """One model behind one or more OpenAI-compatible endpoints."""

    base_url: Address | None = Field(
        None,
        description="Endpoint, such as http://localhost:8000/v1. Without a path, /v1 is added. `demo://teacher` is the scripted "
        "teacher of the demo.",
    )
    model: str = Field(description="Model name as the endpoints know it.")
    api_key_env: KeyVariable = Field(
        None,
        description="Name of the environment variable with the API key: VISIONR1_ and more, or a provider's own, such as "
        "OPENAI_API_KEY. Never write the key itself into a recipe.",
    )
    endpoints: tuple[Endpoint, ...] = Field(
        (),
        max_length=1000,
        description="Several endpoints of the same model, or one with limits, instead of base_url and api_key_env.",
    )
    temperature: Temperature = Field(0.6, description="Sampling temperature (not published, advised for DeepSeek-R1).")
    max_tokens: int = Field(
        16_384, ge=1, le=MOST_TOKENS, description="Longest reply in tokens (not published, equal to sft.cutoff_tokens)."
    )
    prompt_price: float = Field(0.0, ge=0, le=1e6, description="Price of a million tokens of prompts.")
    reply_price: float = Field(0.0, ge=0, le=1e6, description="Price of a million tokens of replies.")

    @model_validator(mode="after")
    def _endpoints_named_once(self) -> Teacher:
        if (self.base_url is None) == (not self.endpoints):
            raise ValueError("give base_url, or endpoints with a base_url each")
        if self.endpoints and self.api_key_env is not None:
            raise ValueError("api_key_env goes with base_url; give each of the endpoints its own")
        return self

    @property
    def servers(self) -> tuple[Endpoint, ...]:
        """The endpoints, whichever way they are written."""
        if self.base_url is None:
            return self.endpoints
        return (Endpoint(base_url=self.base_url, api_key_env=self.api_key_env),)


Switchable = Literal[
    "description tells the answer",
    "refused",
    "image not seen",
    "answer was told",
    "speaks of the description",
    "wrong language",
    "repeats itself",
    "wrong answer",
    "contradicts itself",
]


class Filters(Part):
    """Which chains of thought become training data. The paper names no rules; these are ours."""

    off: tuple[Switchable, ...] = Field(
        (), max_length=20, description="Rules that are not applied. Without `wrong answer`, a wrong chain keeps its own answer."
    )
    min_words: int | None = Field(None, ge=1, le=MOST_TOKENS, description="A chain with fewer words is dropped (`too short`).")
    max_words: int | None = Field(None, ge=1, le=MOST_TOKENS, description="A chain with more words is dropped (`too long`).")
    most_repeated: Probability = Field(
        0.5,
        description="A chain of which more than this share of its runs of ten words come again is dropped (`repeats itself`).",
    )
    near_duplicates: Annotated[float, Field(ge=0.5, le=1.0)] | None = Field(
        None,
        description="A chain that shares this much of its runs of five words with one before it is dropped (`near duplicate`), "
        "as MinHash estimates it. null keeps all: chains about problems of one kind may well be alike.",
    )
    evaluation_sets: tuple[str, ...] = Field(
        (),
        max_length=100,
        description="Problems that a model will be scored on, by paths as in `data.train.path`. A problem with the same "
        "picture and a similar question, or with thirteen words in a row of one of theirs, is dropped (`in an evaluation set`).",
    )
