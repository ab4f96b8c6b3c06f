"""The training half of a worker: one optimiser step from a rollout batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from visionr1.capacity.choose import Choice
from visionr1.engine.divided import frozen_engine, load_divided
from visionr1.engine.zero import (
    OptimiserSettings,
    build_zero_engine,
    even_passes,
    full_weights,
    moments_present,
    optimiser_step,
    states_to_cpu,
    states_to_device,
)
from visionr1.grpo.loss import LossTerms, grpo_terms, token_weights
from visionr1.grpo.schedule import split_evenly
from visionr1.model.load import load_model
from visionr1.model.pack import PackedRow, PromptTensors, TrainSequence, micro_batches, pack
from visionr1.model.policy import Policy
from visionr1.recipe.schema import Recipe


@dataclass(frozen=True)
class Experience:
    """One completion to learn from.

    Attributes:
        sequence: its prompt and token ids.
        advantage: group-relative advantage.
        rollout_logps: the engine's log-prob of each token when it was sampled.
    """

    sequence: TrainSequence
    advantage: float
    rollout_logps: list[float]


@dataclass(frozen=True, kw_only=True)
class UpdateStats:
    """Means over the tokens of the global batch that went through the policy, but for one maximum; the same on every rank.

    `trained_tokens` has those of completions without a signal, too. `idle_passes` counts forward and backward passes of all
    ranks that trained nothing, see `even_passes`.
    """

    loss: float
    kl_mean: float
    entropy_mean: float
    clip_ratio: float
    logprob_mismatch: float
    logprob_mismatch_max: float
    grad_norm: float
    trained_tokens: int
    idle_passes: int


class Totals(NamedTuple):
    """Completion tokens and completions of the global batch."""

    tokens: int
    sequences: int


class TokenSums(NamedTuple):
    """Sums over the trained tokens of some micro-batches, float64 scalars; `loss` is weighted, so it is a part of the mean."""

    loss: torch.Tensor
    kl: torch.Tensor
    entropy: torch.Tensor
    clipped: torch.Tensor
    mismatch: torch.Tensor

    @classmethod
    def zeros(cls, device: torch.device) -> TokenSums:
        """The sums of no micro-batch."""
        return cls(*torch.zeros(len(cls._fields), dtype=torch.float64, device=device))

    def plus(self, other: TokenSums) -> TokenSums:
        """The sums of both together."""
        return TokenSums(*(one + more for one, more in zip(self, other, strict=True)))

    def over_all_ranks(self) -> TokenSums:
        """The sums of all ranks together; collective."""
        together = torch.stack(tuple(self))
        dist.all_reduce(together)
        return TokenSums(*together)


class Trainer:
    """Policy under DeepSpeed with a frozen reference model.

    Args:
        model_dir: Hugging Face directory of the policy's weights.
        reference_dir: directory of the reference model. Not read when `kl_beta` is 0.
        choice: ZeRO stage, place of the reference model and length of rows.
        banned_token_ids: tokens with lowered logits, as in sampling.
    """

    def __init__(
        self,
        model_dir: Path,
        reference_dir: Path,
        recipe: Recipe,
        choice: Choice,
        banned_token_ids: list[int],
        device: torch.device,
    ):
        self._recipe = recipe
        self._choice = choice
        self._device = device
        self._shared = recipe.model.attention == "shared"
        optimiser = recipe.optimiser
        self.zero_stage = choice.zero_stage
        load = load_divided if self.zero_stage == 3 else load_model
        policy = Policy(load(model_dir, recipe.model, device), banned_token_ids, recipe.rollout.temperature).to(device)
        if optimiser.freeze_vision_tower:
            policy.freeze_vision_tower()
        settings = OptimiserSettings(
            learning_rate=optimiser.learning_rate,
            weight_decay=optimiser.weight_decay,
            betas=optimiser.betas,
            max_grad_norm=optimiser.max_grad_norm,
            zero_stage=self.zero_stage,
        )
        self.policy = policy
        self.engine = build_zero_engine(policy, settings, recipe.model.dtype)
        self._reference: Any = None
        if recipe.algorithm.kl_beta > 0:
            divided = self.zero_stage == 3 and choice.reference == "gpu"
            load = load_divided if divided else load_model
            frozen = load(reference_dir, recipe.model.model_copy(update={"gradient_checkpointing": False}), device)
            reference = Policy(frozen, banned_token_ids, recipe.rollout.temperature).to(device).eval().requires_grad_(False)
            self._reference = frozen_engine(reference) if divided else reference
            self._rest_reference()

    @property
    def rope_model(self) -> torch.nn.Module:
        """The inner model. It computes the rotary positions of prompts."""
        return self.policy.inner.model

    def weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Whole tensors under their Hugging Face names; collective under ZeRO-3."""
        return full_weights(self.policy, self.zero_stage)

    def update(self, prompts: list[PromptTensors], batch: list[Experience], learning_rate: float) -> UpdateStats:
        """`updates_per_batch` optimiser steps on this rank's part of a rollout batch; collective.

        The reference model's pass comes first, while the policy's states are still on the host. So a GPU needs no room for
        both. With one update the old policy is the current one, so there is no pass for its log-probs.
        """
        updates = self._recipe.algorithm.updates_per_batch
        parts = split_evenly(batch, updates)
        totals = [self._totals(part) for part in parts]
        parts = [self._with_signal(part) for part in parts]
        reference = self._reference_logps(prompts, parts)
        states_to_device(self.engine, self._device)
        old = [self._logps(self.engine, prompts, part) for part in parts] if updates > 1 else [None]
        results = [
            self._step(prompts, part, logps, frozen, total, learning_rate)
            for part, logps, frozen, total in zip(parts, old, reference, totals, strict=True)
        ]
        states_to_cpu(self.engine, self._device)
        return results[0] if updates == 1 else _merged(results)

    def _totals(self, batch: Sequence[Experience]) -> Totals:
        """Of all ranks together; collective."""
        own = torch.tensor([sum(len(e.sequence.completion_ids) for e in batch), len(batch)], device=self._device)
        dist.all_reduce(own)
        return Totals(*map(int, own))

    def _with_signal(self, batch: list[Experience]) -> list[Experience]:
        """The completions that can change a weight: without a KL term those of a group with equal rewards cannot."""
        if self._recipe.algorithm.kl_beta > 0:
            return batch
        return [experience for experience in batch if experience.advantage != 0] or batch[:1]

    def _rows(self, prompts: list[PromptTensors], batch: Sequence[Experience]) -> list[list[Experience]]:
        sequences = [experience.sequence for experience in batch]
        chosen = micro_batches(prompts, sequences, self._choice.row_tokens, shared=self._shared)
        return [[batch[index] for index in indices] for indices in chosen]

    def _reference_logps(
        self, prompts: list[PromptTensors], parts: Sequence[Sequence[Experience]]
    ) -> list[list[torch.Tensor] | None]:
        """Log-probs under the reference model of each part's micro-batches. None for each if there is no reference model."""
        if self._reference is None:
            return [None] * len(parts)
        if self._choice.reference == "host":
            self._reference.to(self._device)
        logps: list[list[torch.Tensor] | None] = [self._logps(self._reference, prompts, part) for part in parts]
        self._rest_reference()
        return logps

    def _rest_reference(self) -> None:
        if self._choice.reference == "host":
            self._reference.to("cpu")
            if self._device.type == "cuda":
                torch.cuda.empty_cache()  # vLLM's room is outside torch's cache

    def _logps(self, model: Any, prompts: list[PromptTensors], batch: Sequence[Experience]) -> list[torch.Tensor]:
        """Log-probs under `model` of the tokens of each micro-batch, repeated ones too, without gradient."""
        with torch.no_grad():
            return [model(self._pack(prompts, row)).logps_N for row, _ in even_passes(self._rows(prompts, batch), self._device)]

    def score(self, prompts: list[PromptTensors], sequences: list[TrainSequence]) -> torch.Tensor:
        """Log-probs [N] under the present policy of all completion tokens, in one packed row; collective under ZeRO-3."""
        with torch.no_grad():
            logps_N: torch.Tensor = self.engine(pack(prompts, sequences, shared=self._shared).to(self._device)).logps_N
        return logps_N

    def _pack(self, prompts: list[PromptTensors], row: list[Experience]) -> PackedRow:
        return pack(prompts, [experience.sequence for experience in row], shared=self._shared).to(self._device)

    def _step(
        self,
        prompts: list[PromptTensors],
        batch: Sequence[Experience],
        old: list[torch.Tensor] | None,
        reference: list[torch.Tensor] | None,
        totals: Totals,
        learning_rate: float,
    ) -> UpdateStats:
        rows = self._rows(prompts, batch)
        passed = torch.tensor([sum(len(e.sequence.completion_ids) for e in batch), len(rows)], device=self._device)
        dist.all_reduce(passed)
        tokens, used = map(int, passed)
        passes = even_passes(rows, self._device)
        sums = TokenSums.zeros(self._device)
        farthest = torch.zeros((), device=self._device)
        for index, (row, idle) in enumerate(passes):
            old_logps_N = None if old is None else old[index]
            reference_N = None if reference is None else reference[index]
            share = 0.0 if idle else 1.0
            part, mismatch_N = self._micro_batch(prompts, row, old_logps_N, reference_N, totals, share=share)
            sums = sums.plus(part)
            farthest = torch.maximum(farthest, mismatch_N.max())
        with moments_present(self.engine, self._device):
            grad_norm = optimiser_step(self.engine, learning_rate)
        sums = sums.over_all_ranks()
        dist.all_reduce(farthest, op=dist.ReduceOp.MAX)
        return UpdateStats(
            loss=float(sums.loss),
            kl_mean=float(sums.kl) / tokens,
            entropy_mean=float(sums.entropy) / tokens,
            clip_ratio=float(sums.clipped) / tokens,
            logprob_mismatch=float(sums.mismatch) / tokens,
            logprob_mismatch_max=float(farthest),
            grad_norm=grad_norm,
            trained_tokens=totals.tokens,
            idle_passes=len(passes) * dist.get_world_size() - used,
        )

    def _micro_batch(
        self,
        prompts: list[PromptTensors],
        row: list[Experience],
        old_logps_N: torch.Tensor | None,
        reference_N: torch.Tensor | None,
        totals: Totals,
        *,
        share: float,
    ) -> tuple[TokenSums, torch.Tensor]:
        """Forward and backward of one packed row; its sums, each times `share`, and the mismatch of each token [N]."""
        packed = self._pack(prompts, row)
        advantages_N = torch.tensor([e.advantage for e in row], device=self._device)[packed.sequence_N]
        weights_N = share * token_weights(packed.sequence_N, self._recipe.algorithm.loss_aggregation, *totals)

        def terms_of(logps_C: torch.Tensor, part: slice) -> LossTerms:
            old_C = logps_C.detach() if old_logps_N is None else old_logps_N[part]
            reference_C = None if reference_N is None else reference_N[part]
            return grpo_terms(logps_C, old_C, reference_C, advantages_N[part], self._recipe.algorithm)

        stats = self.engine(packed, lambda logps_C, part: weights_N[part] * terms_of(logps_C, part).loss_N)
        # DeepSpeed averages over ranks; the weights already sum to 1 over all of them.
        self.engine.backward(stats.loss * dist.get_world_size(), scale_wrt_gas=False)
        terms = terms_of(stats.logps_N, slice(None))
        rollout_N = torch.tensor([logp for e in row for logp in e.rollout_logps], device=self._device)
        mismatch_N = (stats.logps_N - rollout_N).abs()

        def total(value_N: torch.Tensor) -> torch.Tensor:
            return share * value_N.double().sum()

        sums = TokenSums(
            loss=stats.loss.detach().double(),
            kl=total(terms.kl_N),
            entropy=total(stats.entropy_N),
            clipped=total(terms.clipped_N),
            mismatch=total(mismatch_N),
        )
        return sums, mismatch_N


def _merged(results: list[UpdateStats]) -> UpdateStats:
    """One row for a batch with several updates; the mismatch comes from the first one, which is on-policy."""
    tokens = sum(result.trained_tokens for result in results)

    def mean(name: str) -> float:
        return sum(getattr(result, name) * result.trained_tokens for result in results) / tokens

    return UpdateStats(
        loss=mean("loss"),
        kl_mean=mean("kl_mean"),
        entropy_mean=mean("entropy_mean"),
        clip_ratio=mean("clip_ratio"),
        logprob_mismatch=results[0].logprob_mismatch,
        logprob_mismatch_max=results[0].logprob_mismatch_max,
        grad_norm=mean("grad_norm"),
        trained_tokens=tokens,
        idle_passes=sum(result.idle_passes for result in results),
    )
