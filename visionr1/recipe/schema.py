"""Every value of the recipe, with its default and its meaning.

The defaults are the paper's (Vision-R1, arXiv 2503.06749v4) where it publishes a value. Where it
does not, the description says "not published" and names the source of the default. This module is
also the source of the JSON Schema and of the custom resource's schema, so it never imports torch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from visionr1.recipe.coldstart import ColdStart
from visionr1.recipe.evaluation import Evaluation
from visionr1.recipe.reward import Reward
from visionr1.recipe.source import Source
from visionr1.recipe.values import (
    MOST_COMPLETIONS,
    MOST_PIXELS,
    MOST_STAGES,
    MOST_STEPS,
    MOST_TOKENS,
    Bound,
    Part,
    Probability,
    ZeroStage,
)


class Model(Part):
    """The model that is trained."""

    base: str = Field(
        "Qwen/Qwen2.5-VL-7B-Instruct",
        description="Starting weights: a Hugging Face model name or a local directory. `demo` is the tiny model in this package.",
    )
    revision: str | None = Field(
        None,
        description="Commit of the Hugging Face model, to pin it.",
        pattern=r"^[A-Za-z0-9]+([-_./][A-Za-z0-9]+)*$",
        max_length=128,
    )
    dtype: Literal["bfloat16", "float32"] = Field("bfloat16", description="Data type of weights and activations in training.")
    attention: Literal["shared", "plain", "sdpa", "eager"] = Field(
        "shared",
        description="How the trainer computes attention. `shared`: without a mask, each prompt once for all its completions. "
        "`plain`: without a mask, each completion with its own copy of the prompt. `sdpa` and `eager`: transformers' own, with a "
        "mask. All give the same numbers, apart from rounding.",
    )
    gradient_checkpointing: bool = Field(True, description="Recompute activations in the backward pass to save memory.")
    min_pixels: int = Field(
        262_144,
        ge=784,
        le=MOST_PIXELS,
        description="Smaller images are enlarged to this many pixels (not published, as in EasyR1).",
    )
    max_pixels: int = Field(
        4_194_304,
        ge=784,
        le=MOST_PIXELS,
        description="Larger images are reduced to this many pixels (not published, as in EasyR1's RL).",
    )
    system_prompt: str | None = Field(
        None,
        description="System prompt. null keeps the one of the chat template. Only Vision-R1-Zero has one (section 3.1).",
    )

    @model_validator(mode="after")
    def _pixels_in_order(self) -> Model:
        if self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels ({self.min_pixels}) is larger than max_pixels ({self.max_pixels})")
        return self


class Data(Part):
    """Problems for reinforcement learning and for evaluation: images, problem with <image>, answer."""

    train: Source = Field(Source(path="hf://Osilly/Vision-R1-rl@train"), description="Problems that GRPO trains on.")
    held_out: Source | None = Field(
        Source(path="hf://Osilly/Vision-R1-rl@test"),
        description="Problems that the evaluation scores. null skips the evaluation.",
    )
    max_prompt_tokens: int = Field(
        2048,
        ge=16,
        le=MOST_TOKENS,
        description="Longest prompt in tokens, images included (not published, EasyR1's default). Longer ones are left out.",
    )


class SFT(Part):
    """Cold-start fine-tuning (section 4.1 and the released LLaMA-Factory files)."""

    data: Source | None = Field(
        None, description="Chains of thought in the sharegpt layout of the released data. null takes the cold start's output."
    )
    epochs: float = Field(2.0, gt=0, le=10_000, description="Passes over the data.")
    max_steps: int | None = Field(
        None, ge=1, le=MOST_STEPS, description="Stop after this many optimiser steps. null trains all epochs."
    )
    global_batch_size: int = Field(32, ge=1, le=1_000_000, description="Samples per optimiser step.")
    cutoff_tokens: int = Field(
        16_384, ge=16, le=MOST_TOKENS, description="Longest sample in tokens. Longer ones are dropped and counted."
    )
    micro_batch_tokens: int = Field(
        16_384, ge=16, le=MOST_TOKENS, description="Tokens per packed row. A longer sample gets its own row."
    )
    learning_rate: float = Field(5e-6, gt=0, le=10, description="Peak learning rate.")
    weight_decay: float = Field(0.0, ge=0, le=10, description="AdamW weight decay (commented out in the released file).")
    warmup_ratio: Probability = Field(
        0.05, description="Share of the steps in which the learning rate rises. After them it falls to 0 along a cosine."
    )
    max_grad_norm: Bound = Field(
        1.0, description="Largest gradient norm, larger ones are clipped (not published, the released trainer's default)."
    )
    freeze_vision_tower: bool = Field(
        True, description="Train only the language model. The released run did so by its trainer's default."
    )
    zero_stage: ZeroStage = Field(3, description="DeepSpeed ZeRO stage. auto chooses by what fits on the GPUs.")
    processes: int = Field(8, ge=1, le=64, description="Training processes per node.")
    checkpoint_every: int = Field(1000, ge=1, le=MOST_STEPS, description="Optimiser steps between two checkpoints.")


class Stage(Part):
    """One stage of Progressive Thinking Suppression Training (section 3.4)."""

    max_completion_tokens: int = Field(
        ge=1, le=MOST_TOKENS, description="Length limit L_s in tokens. A longer completion is cut and scores 0."
    )
    group_size: int = Field(ge=2, le=4096, description="Completions per prompt, G_s.")
    steps: int = Field(100, ge=1, le=MOST_STEPS, description="Steps of this stage, with one rollout batch each.")
    tensor_parallel: int = Field(1, ge=1, le=64, description="GPUs that share one vLLM engine in this stage.")
    carry: Literal["weights", "weights+optimizer"] = Field(
        "weights", description="What this stage takes over from the stage before it (not published)."
    )
    reference: Literal["initial", "previous_stage"] = Field(
        "initial",
        description="Weights of the reference model in the KL term: the cold-start model, or the model at the start of this "
        "stage (not published).",
    )


class Algorithm(Part):
    """GRPO (equations 1 and 2)."""

    prompts_per_step: int = Field(
        512, ge=1, le=1_000_000, description="Prompts per step (not published, EasyR1's rollout batch)."
    )
    clip_low: Bound = Field(
        0.2, description="How far the probability ratio may fall below 1 before it is clipped (the paper's epsilon)."
    )
    clip_high: Bound = Field(
        0.2, description="How far the probability ratio may rise above 1 before it is clipped (the paper's epsilon)."
    )
    dual_clip: float | None = Field(
        None, gt=1, le=1e6, description="Bound on the loss of tokens with a negative advantage. null sets none, as in the paper."
    )
    kl_beta: float = Field(1e-2, ge=0, le=1e6, description="Weight of the KL term. With 0, no reference model is loaded.")
    kl_estimator: Literal["k1", "k2", "k3"] = Field("k3", description="KL estimator. The paper uses k3.")
    normalise_by_std: bool = Field(True, description="Divide advantages by the group's standard deviation.")
    loss_aggregation: Literal["token_mean", "sequence_mean"] = Field(
        "token_mean", description="Mean over all tokens of the global batch, or over its sequences (not published, as in EasyR1)."
    )
    updates_per_batch: int = Field(
        1,
        ge=1,
        le=1000,
        description="Optimiser steps per rollout batch (not published). 1 needs no separate pass for old log-probs.",
    )
    reference_device: Literal["auto", "gpu", "host"] = Field(
        "auto",
        description="Where the reference model is between its passes: on the GPU (under ZeRO-3 divided among all), or whole on "
        "the host. auto takes the host where the GPU has no room for it.",
    )


class Optimiser(Part):
    """AdamW for GRPO. The paper publishes none of these values."""

    learning_rate: float = Field(1e-6, gt=0, le=10, description="Learning rate (not published, EasyR1's default).")
    warmup_steps: int = Field(
        0,
        ge=0,
        le=MOST_STEPS,
        description="Steps at the start of each stage in which the learning rate rises linearly (not published).",
    )
    weight_decay: float = Field(1e-2, ge=0, le=10, description="AdamW weight decay (not published, EasyR1's default).")
    betas: tuple[Probability, Probability] = Field((0.9, 0.999), description="AdamW's betas (not published).")
    max_grad_norm: Bound = Field(
        1.0, description="Largest gradient norm, larger ones are clipped (not published, EasyR1's default)."
    )
    zero_stage: ZeroStage = Field("auto", description="DeepSpeed ZeRO stage. auto chooses by what fits on the GPUs.")
    micro_batch_tokens: int | None = Field(
        None,
        ge=16,
        le=MOST_TOKENS,
        description="Tokens per packed row, with prompts. null chooses by what fits on the GPU, at most 20480 unless one "
        "sequence is longer.",
    )
    freeze_vision_tower: bool = Field(False, description="Do not train the vision tower (not published, EasyR1 trains it).")


class Rollout(Part):
    """Sampling."""

    engine: Literal["vllm", "hf"] = Field(
        "vllm", description="`vllm`, or `hf` (transformers' generate) where vLLM cannot be installed."
    )
    workers: int = Field(8, ge=1, le=10_000, description="Ray actors, one per GPU (or CPU slot). Each trains and samples.")
    device: Literal["auto", "cuda", "cpu"] = Field(
        "auto", description="Where workers compute. auto takes the GPU if there is one."
    )
    temperature: float = Field(1.0, gt=0, le=100, description="Sampling temperature (not published, EasyR1's default).")
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus sampling. Any value other than 1 biases the probability ratio.")
    gpu_memory_utilization: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Share of the GPU memory that vLLM may use. null gives it what the trainer leaves free.",
    )
    cpu_kv_cache_gib: float = Field(0.25, gt=0, le=100_000, description="KV cache of a vLLM engine on CPU, in GiB.")
    max_sequences: int = Field(256, ge=1, le=100_000, description="Sequences that one engine decodes at the same time.")
    mismatch_limit: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="The run stops if engine and trainer differ by more than this in the mean absolute log-prob of a step, or by "
        "100 times this at one token. In nats. null: 3e-5 in float32, 0.05 in bfloat16.",
    )
    parity_every: int = Field(
        10,
        ge=1,
        le=MOST_STEPS,
        description="Steps between two parity probes, from a stage's first step on. A probe comes right after the weight sync: "
        "engine and trainer must agree on a few tokens.",
    )

    @model_validator(mode="after")
    def _what_the_engine_takes(self) -> Rollout:
        if self.engine == "vllm" and self.temperature > 2:
            raise ValueError(f"temperature ({self.temperature}) is more than 2, the most that vLLM allows")
        return self

    def on_gpu(self, there_is_one: bool) -> bool:
        """Whether workers compute on a GPU. The driver and every worker use this rule."""
        return self.device == "cuda" or (self.device == "auto" and there_is_one)


class Checkpoint(Part):
    """Which checkpoints are written and kept."""

    every: int = Field(
        5, ge=1, le=MOST_STEPS, description="GRPO steps between two checkpoints. The paper compares every fifth step."
    )
    keep_last: int = Field(2, ge=1, le=100_000, description="How many of a phase's newest checkpoints are kept.")
    keep_stage_end: int = Field(
        50,
        ge=0,
        le=MOST_STEPS,
        description="Within this many last steps of a stage, the checkpoint of every fifth step is kept. Appendix A picks the "
        "best of them.",
    )


class Metrics(Part):
    """What can be watched."""

    enabled: bool = Field(True, description="Serve /metrics and /healthz.")
    host: str = Field(
        "127.0.0.1",
        description="Address that the driver and the workers listen on. `::` takes all, IPv6 and IPv4; so it is in a pod.",
    )
    port: int = Field(
        9464, ge=0, le=65_535, description="Port of the driver. Workers use port + 1 + rank. 0 takes any free ports."
    )
    save_rollouts: bool = Field(True, description="Keep every completion: prompt id, tokens, reward parts, finish reason.")


class Recipe(Part):
    """A whole run: cold-start data, SFT, GRPO stages, evaluation."""

    name: str = Field("vision-r1", pattern=r"^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$", description="Name of the run.")
    preflight: Literal["refuse", "warn"] = Field(
        "refuse",
        description="What happens to a run that surely does not fit on its GPUs. refuse: it does not start. warn: it starts, "
        "after a line that says so.",
    )
    seed: int = Field(1, ge=0, le=2**31 - 1, description="Seed for the order of the data and for sampling.")
    model: Model = Model()
    data: Data = Data()
    coldstart: ColdStart | None = Field(None, description="Modality bridging. null if SFT reads existing data or is left out.")
    sft: SFT | None = Field(None, description="Cold-start fine-tuning. null starts GRPO from model.base.")
    stages: tuple[Stage, ...] = Field((), max_length=MOST_STAGES, description="GRPO stages, in order.")
    algorithm: Algorithm = Algorithm()
    optimiser: Optimiser = Optimiser()
    rollout: Rollout = Rollout()
    reward: Reward = Reward()
    evaluation: Evaluation = Evaluation()
    checkpoint: Checkpoint = Checkpoint()
    metrics: Metrics = Metrics()

    def fewer_workers(self, per_pod: int) -> list[int]:
        """Numbers of workers below `rollout.workers` that can share out the steps of all stages in whole pods, largest first."""
        whole = [per_pod, *(stage.tensor_parallel for stage in self.stages)]
        return [
            count
            for count in range(self.rollout.workers - 1, 0, -1)
            if self.algorithm.prompts_per_step % count == 0 and all(count % part == 0 for part in whole)
        ]

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if self.sft and self.sft.data is None and self.coldstart is None:
            raise ValueError("sft.data is null and there is no coldstart section that makes data: set one of the two")
        if self.sft is None and not self.stages:
            raise ValueError("nothing to do: add an sft section, stages, or both")
        if self.stages and self.algorithm.prompts_per_step % self.rollout.workers:
            raise ValueError(
                f"algorithm.prompts_per_step ({self.algorithm.prompts_per_step}) is not a multiple of "
                f"rollout.workers ({self.rollout.workers})"
            )
        if self.model.dtype == "bfloat16" and 1 in (self.optimiser.zero_stage, self.sft and self.sft.zero_stage):
            raise ValueError("zero_stage 1 is for model.dtype float32 only: take 2, which needs less memory")
        for index, stage in enumerate(self.stages):
            sequences = self.algorithm.prompts_per_step // self.rollout.workers * stage.group_size
            if sequences < self.algorithm.updates_per_batch:
                wanted = f"algorithm.updates_per_batch ({self.algorithm.updates_per_batch})"
                raise ValueError(f"{wanted} is more than the {sequences} completions of a worker in a step of stages.{index}")
            if self.algorithm.prompts_per_step * stage.group_size > MOST_COMPLETIONS:
                raise ValueError(
                    f"stages.{index}: prompts_per_step x group_size is {self.algorithm.prompts_per_step * stage.group_size:,} "
                    f"completions in a step; {MOST_COMPLETIONS:,} is the most"
                )
            if self.rollout.workers % stage.tensor_parallel:
                raise ValueError(
                    f"stages.{index}.tensor_parallel ({stage.tensor_parallel}) does not divide "
                    f"rollout.workers ({self.rollout.workers})"
                )
        return self
