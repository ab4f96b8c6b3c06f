"""One rank of cold-start fine-tuning; torchrun starts it (see `visionr1.sft.launch`)."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch
import torch.distributed as dist

from visionr1.data.fingerprint import sample_digests, shared_fingerprint
from visionr1.data.readers import load_samples
from visionr1.data.sampler import PromptSampler
from visionr1.engine.state import load_trainer, read_companions, save_trainer, save_weights
from visionr1.engine.zero import (
    OptimiserSettings,
    build_zero_engine,
    choose_zero_stage,
    join_process_group,
    optimiser_step,
    same_count,
)
from visionr1.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_STOPPED, BadInput, Stopped
from visionr1.metrics.exporter import Exporter
from visionr1.metrics.steplog import StepLog
from visionr1.model.chat import PromptBuilder
from visionr1.model.load import base_dir, load_model
from visionr1.model.policy import Policy
from visionr1.progress import progress
from visionr1.recipe.schema import SFT, Recipe, Source
from visionr1.rollout.build import device_of
from visionr1.sft.batches import Batch, ahead, make_batch
from visionr1.sft.effort import Effort
from visionr1.sft.schedule import learning_rate, total_steps
from visionr1.signals import StopFlag
from visionr1.storage import Background, Checkpoints, FileEntry, StorageError, Store, layout, open_store
from visionr1.storage.run_recipe import read_recipe

BETAS = (0.9, 0.999)
WHERE = {"phase": "sft", "stage": None}
"""Where every record and every rank's numbers belong."""


class SftRank:
    """Engine, data and checkpoints of one rank."""

    def __init__(self, store: Store, recipe: Recipe, sft: SFT):
        self.recipe, self.sft, self.store = recipe, sft, store
        # Each rank of a node has a port of its own.
        self.exporter = Exporter(recipe.metrics, "sft", recipe.name, port_offset=int(os.environ.get("LOCAL_RANK", "0")))
        if os.environ["RANK"] == "0":
            self.exporter.update(WHERE | {"started_timestamp_seconds": time.time()})
        self.device = device_of(recipe)
        join_process_group(self.device)
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.checkpoints = Checkpoints(store, "sft")
        self.done = self._agreed(self.checkpoints.latest() or 0)
        model_dir = self.checkpoints.fetch(self.done) if self.done else base_dir(recipe.model)
        self.companions = read_companions(model_dir)
        self.builder = PromptBuilder(model_dir, recipe.model)
        self.samples = load_samples(sft.data or Source(path=f"{store.url}/{layout.COLDSTART_DATA}"))
        self.policy = Policy(load_model(model_dir, recipe.model, self.device), self.builder.banned_token_ids, 1.0)
        if sft.freeze_vision_tower:
            self.policy.freeze_vision_tower()
        parameters = sum(parameter.numel() for parameter in self.policy.parameters())
        self.zero_stage = choose_zero_stage(sft.zero_stage, parameters, self.world)
        settings = OptimiserSettings(sft.learning_rate, sft.weight_decay, BETAS, sft.max_grad_norm, self.zero_stage)
        self.engine = build_zero_engine(self.policy.to(self.device), settings, recipe.model.dtype)
        if self.done:
            load_trainer(self.engine, model_dir)
        state = self.checkpoints.state(self.done)["sampler"] if self.done else None
        self.sampler = PromptSampler(len(self.samples), recipe.seed, self._fingerprint(), state, source="the data for SFT")
        self.total = total_steps(sft, len(self.samples))
        self.uploading, self.uploading_since = Background("upload"), 0.0
        self.in_flight: tuple[int, list[FileEntry], dict[str, Any]] | None = None

    def _agreed(self, value: int) -> int:
        """Rank 0's value, on every rank."""
        box = torch.tensor([value], device=self.device)
        dist.broadcast(box, 0)
        return int(box)

    def _fingerprint(self) -> str:
        """What the samples are; each rank reads its share, and how many there are makes no difference."""
        shares: list[Any] = [None] * self.world
        dist.all_gather_object(shares, sample_digests(self.samples, range(self.rank, len(self.samples), self.world)))
        return shared_fingerprint(shares)

    def step(self, batch: Batch, rate: float) -> dict[str, float]:
        """One optimiser step: mean cross-entropy over all response tokens of the global batch."""
        targets = torch.tensor([batch.targets], device=self.device)
        dist.all_reduce(targets)
        loss_sum = torch.zeros(1, dtype=torch.float64, device=self.device)
        for index in range(same_count(len(batch.rows), self.device)):
            spare = index >= len(batch.rows)
            row = batch.rows[0 if spare else index].to(self.device)
            share = 0.0 if spare or batch.targets == 0 else 1.0
            loss = -self.engine(row).logps_N.sum() * share / targets[0].clamp(min=1)
            # DeepSpeed averages over ranks; this is already the global mean's part.
            self.engine.backward(loss * self.world, scale_wrt_gas=False)
            loss_sum += loss.detach().double()
        norm = optimiser_step(self.engine, rate)
        dist.all_reduce(loss_sum)
        return {"loss": float(loss_sum), "grad_norm": norm, "trained_tokens": int(targets)}

    def save(self, step: int) -> list[list[FileEntry]]:
        """Writes a checkpoint's files, which `commit` makes a checkpoint; collective. Returns each rank's entries."""
        if self.rank == 0:
            self.checkpoints.staging(step)
            self.checkpoints.clear(step)
        dist.barrier()
        folder = self.checkpoints.folder(step)
        names = save_weights(self.policy, self.zero_stage, self.companions, folder) + save_trainer(self.engine, folder)
        parts: list[Any] = [None] * self.world
        dist.all_gather_object(parts, [entry.model_dump() for entry in self.checkpoints.publish(step, folder, names)])
        return [[FileEntry.model_validate(item) for item in part] for part in parts]

    def upload(self, step: int, parts: list[list[FileEntry]], sampler: dict[str, Any]) -> None:
        """Begins to upload what `save` wrote, if the run is on S3; `settle` commits it when all ranks are done."""
        self.in_flight, self.uploading_since = (step, [entry for part in parts for entry in part], sampler), time.time()
        self.uploading.start(partial(self.checkpoints.upload, step, parts[self.rank]))

    def settle(self, *, wait: bool) -> None:
        """Commits the checkpoint in flight, if there is one, once every rank has uploaded its part; collective.

        Args:
            wait: until all have, else the next call may find them ready.

        Raises:
            StorageError: this rank could not upload its part.
        """
        if self.in_flight is None:
            return
        if wait:
            self.uploading.wait()
        if not same_count(int(self.uploading.running()), self.device):
            self.commit(*self.in_flight)
            self.in_flight = None

    def commit(self, step: int, entries: list[FileEntry], sampler: dict[str, Any]) -> None:
        """Commits what `save` wrote and drops older checkpoints; returns when it is there for all ranks."""
        if self.rank == 0:
            self.checkpoints.commit(step, entries, {"sampler": sampler, "final": step == self.total})
            self.exporter.committed(step, time.time() - self.uploading_since)
            self.checkpoints.retain(self.checkpoints.steps()[-self.recipe.checkpoint.keep_last :])
        dist.barrier()


def train(rank: SftRank, should_stop: Callable[[], bool]) -> None:  # noqa: C901 - the order of a step's parts is seen in one place
    """Runs the steps that are left.

    Raises:
        Stopped: asked to stop, after a checkpoint.
    """
    sft, first = rank.sft, rank.rank == 0
    log = StepLog(rank.store, "sft", rank.done) if first else None
    logging = Background("step log")
    if first:
        rank.exporter.update(WHERE | {"stage_first_step": 0, "stage_last_step": rank.total})
    effort = Effort(sft, rank.recipe.model, rank.policy.inner.config, rank.device)
    rank.exporter.update(WHERE | effort.peak_values())
    sampler, states = rank.sampler, {}

    def draws() -> Iterator[list[int]]:
        for step in range(rank.done + 1, rank.total + 1):
            indices = sampler.next(sft.global_batch_size)
            states[step] = sampler.state
            yield indices[rank.rank :: rank.world]

    make = partial(_make, rank)
    begun = time.perf_counter()
    with progress("SFT", rank.total, rank.done) as advance:
        for step, batch in enumerate(ahead(make, draws()), start=rank.done + 1):
            rate = learning_rate(sft, step, rank.total)
            stats = rank.step(batch, rate)
            updated = time.perf_counter()
            seconds = {"update": updated - begun}
            own = effort.step(batch.rows, batch.targets, seconds["update"]) | {
                "trained_tokens": batch.targets,
                "host_memory_bytes": psutil.Process().memory_info().rss,
            }
            stopping = bool(same_count(int(should_stop()), rank.device))
            due = stopping or step % sft.checkpoint_every == 0 or step == rank.total
            rank.settle(wait=due)  # so that a machine holds the files of one checkpoint at a time
            if due:
                saved = rank.save(step)
                seconds["checkpoint"] = time.perf_counter() - updated
                stats["checkpoint_bytes"] = sum(entry.bytes for part in saved for entry in part)
            begun = time.perf_counter()
            sampler_state = states.pop(step)
            for note in batch.left_out:
                print(f"left out {note}", file=sys.stderr)
            if log:
                record = _record(step, rate, stats, seconds) | {"host_memory_bytes": own["host_memory_bytes"]}
                logging.start(partial(log.append, record))
                advance(1, f"loss {stats['loss']:.3f}")
            rank.exporter.update((record if log else WHERE) | own)  # the log has all ranks' tokens, /metrics this rank's
            if due or rank.checkpoints.local:
                logging.wait()
            if due:
                # Last of all: a step that is committed is never run again, so nothing may be left to write.
                rank.upload(step, saved, sampler_state)
                if rank.checkpoints.local or stopping or step == rank.total:
                    rank.settle(wait=True)
            if stopping and step < rank.total:
                raise Stopped(f"SFT stopped after step {step}, which is committed")


def _make(rank: SftRank, indices: list[int]) -> Batch:
    return make_batch(
        rank.samples, indices, rank.builder, rank.policy.inner.model, rank.sft.cutoff_tokens, rank.sft.micro_batch_tokens
    )


def _record(step: int, rate: float, stats: dict[str, float], seconds: dict[str, float]) -> dict[str, Any]:
    return {
        **WHERE,
        "step": step,
        "time": time.time(),
        "learning_rate": rate,
        "step_seconds": seconds,
        **stats,
    }


def main(run_url: str) -> None:
    """Runs this rank; leaves 1, 3 or 64 with a line in the file VISIONR1_EXIT_FILE, for torchrun passes no exit code on."""
    exit_file = Path(os.environ["VISIONR1_EXIT_FILE"])
    try:
        with StopFlag() as should_stop:
            store = open_store(run_url)
            recipe = read_recipe(store)
            assert recipe.sft is not None
            train(SftRank(store, recipe, recipe.sft), should_stop)
    except Stopped as stopped:
        exit_file.write_text(f"{EXIT_STOPPED} {stopped}")
    except BadInput as error:
        exit_file.write_text(f"{EXIT_BAD_INPUT} {error}")
        sys.exit(1)
    except StorageError as error:
        exit_file.write_text(f"{EXIT_FAILED} {error}")
        sys.exit(1)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
