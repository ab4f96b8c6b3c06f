"""A model in this process answers a benchmark's problems, with vLLM or transformers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from visionr1.data.coldstart.reply import Reply
from visionr1.errors import Stopped
from visionr1.evaluate.problems import Builder, EvaluationEngine
from visionr1.evaluate.replies import Keep, Wanted
from visionr1.recipe import Recipe
from visionr1.rollout.types import Sampling

_ROUNDS: Final = 2
"""Times that the engine's sequences are filled by one call. Replies are kept after each call."""
_BLOCK: Final = 1 << 16


class EngineModel:
    """The weights that `engine` has; they are those in `folder`."""

    def __init__(self, engine: EvaluationEngine, builder: Builder, recipe: Recipe, folder: Path) -> None:
        self._engine, self._builder, self._recipe = engine, builder, recipe
        self.depends_on: Mapping[str, Any] = {"weights": weights_id(folder), "engine": recipe.rollout.engine}
        # vLLM for CPUs is a package of another name, so the module is asked.
        names = ({"vllm": "vllm", "hf": "transformers"}[recipe.rollout.engine], "torch")
        self.made_with: Mapping[str, Any] = {name: str(import_module(name).__version__) for name in names}

    def answer(self, wanted: Sequence[Wanted], keep: Keep, should_stop: Callable[[], bool]) -> None:
        """As `Answerer`."""
        evaluation = self._recipe.evaluation
        sampling = Sampling(1, evaluation.max_completion_tokens, evaluation.temperature, evaluation.top_p)
        size = _ROUNDS * self._recipe.rollout.max_sequences
        for start in range(0, len(wanted), size):
            if should_stop():
                raise Stopped("stopped while scoring a benchmark; the replies are kept")
            batch = wanted[start : start + size]
            groups = self._engine.generate([self._builder.build(one.row) for one in batch], sampling, [one.seed for one in batch])
            for one, group in zip(batch, groups, strict=True):
                (completion,) = group.completions
                tokens = len(group.prompt_token_ids), len(completion.token_ids)
                keep(one, Reply(completion.text, "", completion.finish_reason, *tokens))


def weights_id(folder: Path) -> str:
    """A hash that differs between checkpoints: names, sizes, headers and a piece of each file of weights, and the config."""
    total = hashlib.sha256((folder / "config.json").read_bytes())
    for file in sorted(folder.glob("*.safetensors")):
        size = file.stat().st_size
        total.update(f"{file.name} {size} ".encode())
        with file.open("rb") as opened:
            for place in (0, size // 2, max(0, size - _BLOCK)):
                opened.seek(place)
                total.update(opened.read(_BLOCK))
    return total.hexdigest()[:16]
