"""What goes into and comes out of a rollout engine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from visionr1.model.prompt import Prompt

if TYPE_CHECKING:
    import torch  # the driver, which needs the other classes here, never loads it


@dataclass(frozen=True)
class Completion:
    """One sampled response; `token_ids` ends with the end token unless it was cut (`finish_reason` "length")."""

    text: str
    token_ids: list[int]
    logprobs: list[float]
    finish_reason: Literal["stop", "length"]


@dataclass(frozen=True)
class Reply:
    """What the driver needs of a completion; `token_ids` is int32 [C]. Log-probs stay with the worker, which trains on them."""

    text: str
    token_ids: NDArray[np.int32]
    finish_reason: Literal["stop", "length"]


@dataclass(frozen=True)
class Group:
    """All completions of one prompt; `prompt_token_ids` is expanded: one image token for each vision feature."""

    prompt_token_ids: list[int]
    completions: list[Completion]

    def replies(self) -> list[Reply]:
        """The completions as the driver takes them."""
        return [Reply(one.text, np.array(one.token_ids, dtype=np.int32), one.finish_reason) for one in self.completions]


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
        """One group per prompt, in order; `seeds` holds one seed per prompt."""

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Takes over weights under their Hugging Face names, then forgets all that was computed with the old ones."""

    def load(self, model_dir: Path) -> None:
        """Takes over the weights of another directory of the same model."""

    def live(self) -> dict[str, Any]:
        """The engine's own numbers now, under their keys in `visionr1.metrics`; may be called from another thread."""

    def tail_seconds(self) -> float | None:
        """Seconds of the last `generate` in which less than a quarter of its slots were busy; None where there are no slots."""

    def sleep(self) -> None:
        """Gives weights and cache back to the trainer, where both share a GPU; before `wake_weights` nothing else is called."""

    def wake_weights(self) -> None:
        """Makes room for the weights only; new ones must be loaded before `wake_cache`."""

    def wake_cache(self) -> None:
        """Makes room for the cache; from now on `generate` may be called."""
