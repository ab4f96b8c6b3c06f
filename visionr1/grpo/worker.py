"""One Ray actor: a trainer and a rollout engine that take turns on one GPU (or CPU slot)."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import torch

from visionr1.capacity.choose import choose_stage
from visionr1.capacity.model import read_model_sizes
from visionr1.data.check import CheckReport, check_problems
from visionr1.data.kept import Kept
from visionr1.data.readers import load_problems
from visionr1.data.rows import Row
from visionr1.engine.state import load_trainer, save_trainer
from visionr1.engine.weights import read_companions, save_weights
from visionr1.engine.zero import gpus_of_group, join_process_group, states_to_cpu, states_to_device
from visionr1.grpo.effort import Sampled, WorkerEffort
from visionr1.grpo.parity import Gap, Probe, probe_sampling
from visionr1.grpo.plan import WorkerPlan
from visionr1.grpo.prepare import Preparation, Prepared
from visionr1.grpo.start import Weights
from visionr1.grpo.trainer import Experience, Trainer
from visionr1.metrics.exporter import Exporter
from visionr1.model.chat import PromptBuilder
from visionr1.model.device import device_of, device_peak
from visionr1.model.pack import PromptTensors, TrainSequence, prompt_tensors
from visionr1.model.prompt import Prompt
from visionr1.preflight.base import base_dir
from visionr1.rollout.build import build_engine
from visionr1.rollout.types import Group, Reply, Sampling
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.copies import forget_copies
from visionr1.rundir.epoch import FencedStore
from visionr1.rundir.layout import CHECKED_TRAIN
from visionr1.rundir.manifest import FileEntry
from visionr1.storage import open_store


class Worker:
    """Constructed on all ranks at the same time; every method is called on all ranks at the same time.

    Attributes:
        efficiency: what the last update measured against the device's peak, keyed as in `visionr1.metrics`.
    """

    def __init__(self, plan: WorkerPlan):
        recipe, stage = plan.recipe, plan.phase.stage
        os.environ |= {
            "RANK": str(plan.rank),
            "WORLD_SIZE": str(plan.world_size),
            "LOCAL_RANK": "0",
            "MASTER_ADDR": plan.master_address,
            "MASTER_PORT": str(plan.master_port),
        }
        self._device = device_of(recipe)
        self._recipe, self._stage, self._phase = recipe, stage, plan.phase
        self._store = FencedStore(open_store(plan.run_url), plan.epoch)
        start = plan.start
        if plan.place_on_node == 0:
            forget_copies(self._store, {(str(one.phase), one.step) for one in (start.policy, start.reference)})
        model_dir = self._folder(start.policy, trainer=start.restore_trainer)
        self._peer = plan.rank % stage.tensor_parallel
        join_process_group(self._device)
        self._builder = PromptBuilder(model_dir, recipe.model)  # first: it looks at the files before they are read
        self._companions = read_companions(model_dir)
        reference_dir = self._folder(start.reference, trainer=False)
        gpus = gpus_of_group(self._device)
        sizes = read_model_sizes(model_dir)
        choice = choose_stage(recipe, stage, sizes, gpus)
        if gpus is not None and plan.rank == 0:
            print(f"memory: {choice}", flush=True)
        self._trainer = Trainer(model_dir, reference_dir, recipe, choice, self._builder.banned_token_ids, self._device)
        if start.restore_trainer:
            load_trainer(self._trainer.engine, model_dir)
        states_to_cpu(self._trainer.engine, self._device)
        self._engine = build_engine(
            model_dir,
            recipe,
            self._builder,
            max_model_len=recipe.data.max_prompt_tokens + stage.max_completion_tokens,
            gpu_share=choice.engine_share,
            tensor_parallel=stage.tensor_parallel,
            distributed=True,
        )
        self._engine.sleep()
        port = 1 + plan.place_on_node
        self._exporter = Exporter(recipe.metrics, "worker", recipe.name, stage.max_completion_tokens, port_offset=port)
        self._effort = WorkerEffort(recipe, sizes, device_peak(self._device, recipe.model.dtype))
        self._where = {"phase": self._phase.name, "stage": self._phase.number}
        self._sampled: list[Sampled] = []
        self._exporter.update(self._where | self._effort.peak_values())
        self._exporter.read_at_scrape(self._engine.live)  # from now on, when the labels are there
        self._seen: Prompt | None = None
        self._preparation = Preparation(self._builder)
        self.efficiency: dict[str, Any] = {}
        self.sync()

    def _folder(self, weights: Weights, *, trainer: bool) -> Path:
        if weights.phase is None:
            return base_dir(self._recipe.model)
        return Checkpoints(self._store, weights.phase).fetch(weights.step, trainer=trainer)

    def check_problems(self) -> CheckReport:
        """Looks at every train problem once in a run; only one rank needs to."""
        return check_problems(
            load_problems(self._recipe.data.train),
            min_pixels=self._recipe.model.min_pixels,
            max_pixels=self._recipe.model.max_pixels,
            max_prompt_tokens=self._recipe.data.max_prompt_tokens,
            count_prompt_tokens=self._builder.count_tokens,
            kept=Kept(self._store, CHECKED_TRAIN, self._builder.identity),
        )

    def sync(self) -> None:
        """Hands the trainer's weights to the rollout engine, which is asleep before and ready after."""
        begun = time.perf_counter()
        self._engine.wake_weights()
        self._engine.load_weights(self._trainer.weights())
        self._engine.wake_cache()
        self._exporter.update(self._where | self._effort.sync(time.perf_counter() - begun))

    def rollout(self, rows: list[Row], sampling: Sampling, seeds: list[int]) -> list[list[Reply]]:
        """Samples a group for each row; keeps prompts and log-probs here, returns this worker's groups.

        Tensor-parallel peers get the same rows; each keeps every `tensor_parallel`-th group.
        """
        begun = time.perf_counter()
        prepared = self._preparation.take(rows)
        prompts = [one.prompt for one in prepared]
        groups = self._engine.generate(prompts, sampling, seeds)
        self._engine.sleep()
        seconds = time.perf_counter() - begun
        # For the parity probe, the same on tensor-parallel peers: pictures that the engine has certainly kept.
        self._seen = next((prompt for prompt in reversed(prompts) if prompt.images), prompts[-1])
        self._refuse_banned(groups)
        mine = slice(self._peer, None, self._stage.tensor_parallel)
        self._sampled = [Sampled(self._tensors(*pair), pair[1]) for pair in zip(prepared[mine], groups[mine], strict=True)]
        generated = sum(len(completion.token_ids) for one in self._sampled for completion in one.group.completions)
        self._exporter.update(self._where | self._effort.rollout(self._sampled, seconds) | {"generated_tokens": generated})
        return [one.group.replies() for one in self._sampled]

    def update_flops(self) -> list[float]:
        """What the update needs for each group of the last rollout."""
        return self._effort.update_flops(self._sampled)

    def hand_over(self, places: list[int]) -> list[Sampled]:
        """Groups of the last rollout, for another worker to train on; `keep` says that they have left."""
        return [self._sampled[place] for place in places]

    def keep(self, places: list[int], *received: list[Sampled]) -> None:
        """What the next update trains on: these of its own groups, then those that others handed over."""
        self._sampled = [self._sampled[place] for place in places] + [one for part in received for one in part]

    def _tensors(self, prepared: Prepared, group: Group) -> PromptTensors:
        """The engine's expanded prompt as the trainer takes it.

        Raises:
            RuntimeError: it has not one image token for each feature of its pictures.
        """
        features = sum(self._builder.image_tokens(image) for image in prepared.prompt.images)
        tokens = group.prompt_token_ids.count(self._builder.image_token_id)
        if tokens != features:
            raise RuntimeError(
                f"the rollout engine made {tokens} image tokens of a prompt whose pictures have {features} features: "
                "it expands prompts itself, so they must reach it with one placeholder an image (PromptBuilder.build, not expand)"
            )
        return prompt_tensors(self._trainer.rope_model, group.prompt_token_ids, prepared.images, self._builder.image_token_id)

    def probe(self) -> Probe:
        """Engine and trainer on a few tokens, right after a sync: is what the engine serves what was trained?

        They take turns on a GPU here, too, so it ends with another sync.
        """
        assert self._seen is not None, "a probe needs a rollout before it"
        prompts = [self._seen, self._builder.without_images(self._seen)]
        groups = self._engine.generate(prompts, probe_sampling(self._recipe), [self._recipe.seed] * len(prompts))
        self._engine.sleep()
        self._refuse_banned(groups)
        pictures = [self._builder.image_inputs(prompt.images) if prompt.images else None for prompt in prompts]
        prepared = [Prepared(*pair) for pair in zip(prompts, pictures, strict=True)]
        tensors = [self._tensors(one, group) for one, group in zip(prepared, groups, strict=True)]
        completions = [(place, completion) for place, group in enumerate(groups) for completion in group.completions]
        states_to_device(self._trainer.engine, self._device)
        logps_N = self._trainer.score(tensors, [TrainSequence(place, completion.token_ids) for place, completion in completions])
        states_to_cpu(self._trainer.engine, self._device)
        self.sync()
        sampled_N = torch.tensor([logp for _, completion in completions for logp in completion.logprobs])
        differences_N = (logps_N.cpu() - sampled_N).abs()
        n_problem = sum(len(completion.token_ids) for place, completion in completions if place == 0)
        return Probe(*(Gap(float(part.mean()), float(part.max())) for part in differences_N.tensor_split([n_problem])))

    def _refuse_banned(self, groups: list[Group]) -> None:
        banned = set(self._builder.banned_token_ids)
        if any(not banned.isdisjoint(completion.token_ids) for group in groups for completion in group.completions):
            raise RuntimeError(
                "the rollout engine sampled a vision token (or an id without text) although it is banned: such a completion "
                "cannot be trained on; the engine ignores the bias on its logits (vLLM: logit_bias, transformers: sequence_bias)"
            )

    def update(self, advantages: list[list[float]], learning_rate: float, upcoming: list[Row]) -> dict[str, float]:
        """One rollout batch's update, while the prompts of the next rollout are made.

        Args:
            advantages: one list per group that this worker has.
            upcoming: the rows of the next rollout; none if there is no next one.
        """
        begun = time.perf_counter()
        self._preparation.begin(upcoming)
        batch = [
            Experience(TrainSequence(index, completion.token_ids), advantage, completion.logprobs)
            for index, (one, values) in enumerate(zip(self._sampled, advantages, strict=True))
            for completion, advantage in zip(one.group.completions, values, strict=True)
        ]
        stats = self._trainer.update([one.prompt for one in self._sampled], batch, learning_rate)
        self._preparation.wait()
        self.efficiency = self._effort.update(self._sampled, time.perf_counter() - begun)
        trained = sum(len(experience.sequence.completion_ids) for experience in batch)
        memory = psutil.Process().memory_info().rss
        self._exporter.update(self._where | self.efficiency | {"trained_tokens": trained, "host_memory_bytes": memory})
        tail = self._engine.tail_seconds()
        return asdict(stats) | {"host_memory_bytes": memory} | ({} if tail is None else {"rollout_tail_seconds": tail})

    def save(self, step: int) -> list[FileEntry]:
        """Writes this rank's files of a checkpoint; the driver commits it.

        The engine is asleep, and the trainer's states are on the host: they are written from where they are.
        """
        checkpoints = Checkpoints(self._store, self._phase.name)
        folder = checkpoints.folder(step)
        names = save_weights(self._trainer.policy, self._companions, folder)
        names += save_trainer(self._trainer.engine, folder)
        return checkpoints.publish(step, folder, names)
