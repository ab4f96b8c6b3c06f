"""One rank's engine and data: what the loop of SFT asks of it."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator
from typing import Any, Final

import torch
import torch.distributed as dist
from pydantic import TypeAdapter

from visionr1.capacity.choose import choose_sft_zero_stage
from visionr1.capacity.model import read_model_sizes
from visionr1.data.kept import Kept
from visionr1.data.readers import load_samples
from visionr1.data.sampler import PromptSampler
from visionr1.engine.divided import load_divided
from visionr1.engine.exchange import from_all
from visionr1.engine.saving import Parts
from visionr1.engine.state import load_trainer, save_trainer
from visionr1.engine.weights import read_companions, save_weights
from visionr1.engine.zero import (
    OptimiserSettings,
    build_zero_engine,
    even_passes,
    gpus_of_group,
    optimiser_step,
)
from visionr1.metrics.exporter import Exporter
from visionr1.model.chat import PromptBuilder
from visionr1.model.head import TokenLoss
from visionr1.model.load import load_model
from visionr1.model.policy import Policy
from visionr1.preflight.base import base_dir, read_config
from visionr1.preflight.lengths import context_tokens, sft_cutoff
from visionr1.recipe.phases import SFT_PHASE, sft_steps
from visionr1.recipe.schema import SFT, Recipe
from visionr1.recipe.source import Source
from visionr1.rundir import layout
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.manifest import FileEntry
from visionr1.sft.batches import Batch, ahead, make_batch
from visionr1.sft.fingerprint import shared_fingerprint
from visionr1.sft.saving import RankSaving
from visionr1.sft.schedule import step_samples, what_is_made
from visionr1.storage import Store

BETAS = (0.9, 0.999)
WHERE = {"phase": SFT_PHASE, "stage": None}
"""Where every record and every rank's numbers belong."""
_ENTRIES: Final = TypeAdapter(list[FileEntry])


class SftRank:
    """Built on all ranks at the same time; every method is called on all ranks at the same time.

    Attributes:
        done: steps that are committed.
        last_step: the step that ends SFT.
        sizes: of the model.
    """

    def __init__(self, store: Store, recipe: Recipe, sft: SFT, device: torch.device):
        """`device` is the process group's, which has been joined."""
        self.recipe, self.sft, self.store, self.device = recipe, sft, store, device
        # Each rank of a node has a port of its own.
        self.exporter = Exporter(recipe.metrics, "sft", recipe.name, port_offset=int(os.environ.get("LOCAL_RANK", "0")))
        if os.environ["RANK"] == "0":
            self.exporter.update(WHERE | {"started_timestamp_seconds": time.time()})
        self.rank, self._world = dist.get_rank(), dist.get_world_size()
        self._checkpoints = Checkpoints(store, SFT_PHASE)
        self._saving = RankSaving(self._checkpoints, recipe.checkpoint.keep_last, self.exporter.committed)
        self.done = self._of_rank_0(self._checkpoints.latest() or 0)
        model_dir = self._checkpoints.fetch(self.done) if self.done else base_dir(recipe.model)
        self._builder = PromptBuilder(model_dir, recipe.model)  # first: it looks at the files before they are read
        self._companions = read_companions(model_dir)
        self._cutoff = sft_cutoff(sft, context_tokens(read_config(model_dir)))
        self._samples = load_samples(sft.data or Source(path=f"{store.url}/{layout.COLDSTART_DATA}"))
        self.sizes = read_model_sizes(model_dir)
        self._zero_stage = self._choose_zero_stage()
        load = load_divided if self._zero_stage == 3 else load_model
        self.policy = Policy(load(model_dir, recipe.model, self.device), self._builder.banned_token_ids, 1.0)
        if sft.freeze_vision_tower:
            self.policy.freeze_vision_tower()
        settings = OptimiserSettings(
            learning_rate=sft.learning_rate,
            weight_decay=sft.weight_decay,
            betas=BETAS,
            max_grad_norm=sft.max_grad_norm,
            zero_stage=self._zero_stage,
        )
        self._engine = build_zero_engine(self.policy.to(self.device), settings, recipe.model.dtype)
        if self.done:
            load_trainer(self._engine, model_dir)
        state = self._checkpoints.training_state(self.done)["sampler"] if self.done else None
        self._sampler = PromptSampler(len(self._samples), recipe.seed, self._fingerprint(), state, source="the data for SFT")
        self.last_step = sft_steps(sft, len(self._samples))
        if self.rank == 0:
            print(what_is_made(sft, len(self._samples)), flush=True)

    def _choose_zero_stage(self) -> int:
        gpus = gpus_of_group(self.device)
        stage = choose_sft_zero_stage(self.recipe, self.sft, self.sizes, gpus)
        if gpus is not None and self.rank == 0 and self.sft.zero_stage == "auto":
            print(f"memory: ZeRO-{stage}", flush=True)
        return stage

    def _of_rank_0(self, value: int) -> int:
        """Rank 0's value, on every rank."""
        box = torch.tensor([value], device=self.device)
        dist.broadcast(box, 0)
        return int(box)

    def _fingerprint(self) -> str:
        """What the samples are, as rank 0 knows it; see `shared_fingerprint`."""
        return shared_fingerprint(self._samples, Kept(self.store, layout.CHECKED_SFT), self.rank, self._world, self.device)

    def batches(self) -> Generator[tuple[Batch, dict[str, Any]]]:
        """This rank's part of each step that is left, made ahead of it, with the sampler's state after the step."""
        return ahead(self._make, self._draws())

    def _draws(self) -> Iterator[tuple[list[int], dict[str, Any]]]:
        for step in range(self.done + 1, self.last_step + 1):
            indices = self._sampler.next(step_samples(self.sft, len(self._samples), step))
            yield indices[self.rank :: self._world], self._sampler.state

    def _make(self, draw: tuple[list[int], dict[str, Any]]) -> tuple[Batch, dict[str, Any]]:
        indices, state = draw
        budget = self.sft.micro_batch_tokens
        return make_batch(self._samples, indices, self._builder, self.policy.inner.model, self._cutoff, budget), state

    def update(self, batch: Batch, learning_rate: float) -> dict[str, float]:
        """One optimiser step: mean cross-entropy over all response tokens of the global batch."""
        targets = torch.tensor([batch.targets], device=self.device)
        dist.all_reduce(targets)
        loss_sum = torch.zeros(1, dtype=torch.float64, device=self.device)
        for row, idle in even_passes(batch.rows, self.device):
            share = 0.0 if idle or batch.targets == 0 else 1.0
            weight = share / targets[0].clamp(min=1)
            loss = self._engine(row.to(self.device), _cross_entropy(weight)).loss
            # DeepSpeed averages over ranks; this is already the global mean's part.
            self._engine.backward(loss * self._world, scale_wrt_gas=False)
            loss_sum += loss.detach().double()
        norm = optimiser_step(self._engine, learning_rate)
        dist.all_reduce(loss_sum)
        return {"loss": float(loss_sum), "grad_norm": norm, "trained_tokens": int(targets)}

    def check(self) -> None:
        """Raises StorageError if the checkpoint before could not be uploaded or committed by this rank."""
        self._saving.check()

    def save(self, step: int) -> Parts:
        """Writes a checkpoint's files, once the commit before is through; each rank's entries, on all ranks."""
        self._saving.begin(step)
        folder = self._checkpoints.folder(step)
        names = save_weights(self.policy, self._companions, folder) + save_trainer(self._engine, folder)
        written = _ENTRIES.dump_json(list(self._checkpoints.publish(step, folder, names)))
        return [_ENTRIES.validate_json(part) for part in from_all(written, self.device)]

    def commit(self, step: int, parts: Parts, sampler: dict[str, Any], *, wait: bool) -> None:
        """Makes what `save` wrote a checkpoint, then drops those that are no longer kept.

        On S3 the next steps train meanwhile, unless `wait` says to return only when the checkpoint is there.
        """
        self._saving.commit(step, parts, {"sampler": sampler, "final": step == self.last_step}, wait=wait)


def _cross_entropy(weight: torch.Tensor) -> TokenLoss:
    """The loss of a token: its negative log-prob times `weight` [1]."""
    return lambda logps_C, _: -weight * logps_C
