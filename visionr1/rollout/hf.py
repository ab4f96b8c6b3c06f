"""transformers' generate as a rollout engine: slow, for small models where vLLM cannot be installed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from visionr1.model.chat import PromptBuilder
from visionr1.model.head import BAN
from visionr1.model.load import load_model
from visionr1.model.prompt import Prompt
from visionr1.recipe.schema import Recipe
from visionr1.rollout.types import Completion, Group, Sampling


class HfEngine:
    """Holds a copy of the model; one prompt's group is generated at a time, from its own seed."""

    def __init__(self, model_dir: Path, recipe: Recipe, *, builder: PromptBuilder, device: torch.device):
        self._builder = builder
        self._device = device
        self._settings = recipe.model.model_copy(update={"gradient_checkpointing": False, "attention": "sdpa"})
        self._model = load_model(model_dir, self._settings, device).eval()
        self._model.requires_grad_(False)
        self._names = dict(self._model.named_parameters())
        self._bias = {(token,): BAN for token in builder.banned_token_ids}

    def generate(self, prompts: list[Prompt], sampling: Sampling, seeds: list[int]) -> list[Group]:
        state = torch.get_rng_state()
        groups = []
        for prompt, seed in zip(prompts, seeds, strict=True):
            torch.manual_seed(seed)
            groups.append(self._group(prompt, sampling))
        torch.set_rng_state(state)
        return groups

    def _group(self, prompt: Prompt, sampling: Sampling) -> Group:
        ids = self._builder.expand(prompt)
        ids_1P = torch.tensor([ids], device=self._device)
        inputs = {"input_ids": ids_1P, "attention_mask": torch.ones_like(ids_1P)}
        if prompt.images:
            images = self._builder.image_inputs(prompt.images)
            inputs |= {
                "pixel_values": images.pixel_values_PC.to(self._device),
                "image_grid_thw": images.grid_thw_I3.to(self._device),
                "mm_token_type_ids": (ids_1P == self._builder.image_token_id).int(),
            }
        greedy = sampling.temperature == 0
        self._model.model.rope_deltas = None
        # The model's own may ask for a penalty or the likeliest token only.
        self._model.generation_config = GenerationConfig()
        output = self._model.generate(
            **inputs,
            do_sample=not greedy,
            temperature=None if greedy else sampling.temperature,
            top_p=None if greedy else sampling.top_p,
            top_k=None if greedy else 0,
            num_return_sequences=sampling.n,
            max_new_tokens=sampling.max_tokens,
            eos_token_id=self._builder.eos_token_ids,
            pad_token_id=self._builder.eos_token_ids[0],
            sequence_bias=self._bias,
            return_dict_in_generate=True,
            output_scores=True,
        )
        logps_GCV = torch.stack(output.scores, dim=1).float().log_softmax(dim=-1)
        tokens_GC = output.sequences[:, len(ids) :]
        logps_GC = logps_GCV.gather(2, tokens_GC[..., None])[..., 0]
        return Group(ids, [self._completion(t.tolist(), p.tolist()) for t, p in zip(tokens_GC, logps_GC, strict=True)])

    def _completion(self, token_ids: list[int], logprobs: list[float]) -> Completion:
        ends = [place for place, token in enumerate(token_ids) if token in self._builder.eos_token_ids]
        length = ends[0] + 1 if ends else len(token_ids)
        # As it was sampled: the tags may be special tokens of this tokenizer.
        text = self._builder.tokenizer.decode(token_ids[: ends[0]] if ends else token_ids, skip_special_tokens=False)
        return Completion(text, token_ids[:length], logprobs[:length], "stop" if ends else "length")

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        with torch.no_grad():
            for name, value in weights:
                self._names[name].copy_(value)

    def load(self, model_dir: Path) -> None:
        # Names in a file are not the model's own (transformers maps them as it reads).
        self.load_weights(load_model(model_dir, self._settings, self._device).named_parameters())

    def live(self) -> dict[str, Any]:
        """Empty: it has no queue and no cache."""
        return {}

    def tail_seconds(self) -> None:
        """One prompt's group at a time: there are no slots."""

    def sleep(self) -> None:
        """Nothing to give back: the copy is small."""

    def wake_weights(self) -> None:
        """Always awake."""

    def wake_cache(self) -> None:
        """Always awake."""
