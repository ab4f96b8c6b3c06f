"""What goes into and comes out of a rollout engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from visionr1.model.prompt import Prompt


@dataclass(frozen=True)
class Completion:
    """One sampled response; `token_ids` ends with the end token unless it was cut (`finish_reason` "length")."""

    text: str
    token_ids: list[int]
    logprobs: list[float]
    finish_reason: Literal["stop", "length"]


@dataclass(frozen=True)
class Group:
    """All completions of one prompt; `prompt_token_ids` is expanded: one image token for each vision feature."""

    prompt_token_ids: list[int]
    completions: list[Completion]


@dataclass(frozen=True)
class Sampling:
    """How to sample; a request's seed makes its completions independent of what else is in the batch."""

    n: int
    max_tokens: int
    temperature: float
    top_p: float = 1.0


class RolloutEngine(Protocol):
    """vLLM or transformers, in this process."""

    def generate(self, prompts: list[Prompt], sampling: Sampling, seeds: list[int]) -> list[Group]:
        """One group a prompt, in order; `seeds` holds one seed a prompt."""
