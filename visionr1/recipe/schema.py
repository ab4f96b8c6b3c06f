"""What a run is: every value of the recipe, its default and its meaning.

The defaults are the paper's (Vision-R1, arXiv 2503.06749v4) where it publishes a value. Where it
does not, the description says "not published" and names what the default follows. This module is
also the source of the JSON Schema and of the custom resource's schema, so it never imports torch.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Part(BaseModel):
    """One mapping of the recipe; unknown keys are mistakes, never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


Probability = Annotated[float, Field(ge=0.0, le=1.0)]
ZeroStage = Literal["auto", 1, 2, 3]


class Model(Part):
    """The model that is trained."""

    base: str = Field(
        "Qwen/Qwen2.5-VL-7B-Instruct",
        description="Starting weights: a Hugging Face model name or a local directory; `demo` is the tiny model in this package.",
    )
    revision: str | None = Field(None, description="Commit of a Hugging Face model, to pin it.")
    dtype: Literal["bfloat16", "float32"] = Field("bfloat16", description="Type of weights and activations in training.")
    attention: Literal["shared", "plain", "sdpa", "eager"] = Field(
        "shared",
        description="Attention of the trainer. `shared`: without a mask, each prompt computed once for all its completions. "
        "`plain`: without a mask, each completion with its own copy of the prompt. `sdpa` and `eager`: transformers' own, with a "
        "mask. All give the same numbers except for rounding.",
    )
    gradient_checkpointing: bool = Field(True, description="Recompute activations in the backward pass to save memory.")
    min_pixels: int = Field(
        262_144, ge=784, description="Smaller images are enlarged to this many pixels (not published; EasyR1's)."
    )
    max_pixels: int = Field(
        4_194_304, ge=784, description="Larger images are reduced to this many pixels (not published; EasyR1's, in RL)."
    )
    system_prompt: str | None = Field(
        None,
        description="System prompt; null keeps the chat template's own. Only Vision-R1-Zero has one (section 3.1).",
    )

    @model_validator(mode="after")
    def _pixels_in_order(self) -> Model:
        if self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels ({self.min_pixels}) is larger than max_pixels ({self.max_pixels})")
        return self


class Source(Part):
    """Where rows come from."""

    path: str = Field(
        description="A .parquet, .jsonl or .json file, a directory of them, s3://bucket/key, hf://owner/name[@split], "
        "or demo://digits/train|held-out."
    )
    image_root: str | None = Field(None, description="Directory that image paths are relative to; default: beside the file.")
    limit: int | None = Field(None, ge=1, description="Use the first rows only.")


class Data(Part):
    """Problems for reinforcement learning and for evaluation (images, problem with <image>, answer)."""

    train: Source = Field(Source(path="hf://Osilly/Vision-R1-rl@train"), description="Problems that GRPO samples.")
    held_out: Source | None = Field(
        Source(path="hf://Osilly/Vision-R1-rl@test"), description="Problems that evaluation scores; null skips evaluation."
    )
    max_prompt_tokens: int = Field(
        2048, ge=16, description="Longest prompt, image tokens included (not published; EasyR1's default)."
    )


class Teacher(Part):
    """One model behind an OpenAI-compatible endpoint."""

    base_url: str = Field(description="Endpoint, such as http://localhost:8000/v1; `demo://teacher` is the scripted teacher.")
    model: str = Field(description="Model name as the endpoint knows it.")
    api_key_env: str | None = Field(
        None, description="Environment variable that holds the key; keys are never written in a recipe."
    )
    temperature: float = Field(0.6, ge=0.0, description="Sampling temperature (not published; DeepSeek-R1's advice).")
    max_tokens: int = Field(16_384, ge=1, description="Longest reply (not published; the SFT cutoff).")


class ColdStart(Part):
    """Modality bridging, section 3.3.1: pseudo-CoT, description, text-only reasoning, filter."""

    problems: Source = Field(description="Problems with answers and images to write chains of thought for.")
    describer: Teacher = Field(
        Teacher(base_url="http://localhost:8000/v1", model="Qwen/Qwen2.5-VL-72B-Instruct"),
        description="The multimodal model of steps 1 and 2.",
    )
    reasoner: Teacher = Field(
        Teacher(base_url="http://localhost:8001/v1", model="deepseek-ai/DeepSeek-R1"),
        description="The text-only reasoner of step 3.",
    )
    give_answer_to_reasoner: bool = Field(
        True,
        description="Put the true answer into the reasoner's prompt, as the authors do; false makes the answer filter stronger.",
    )
    prompts_dir: str | None = Field(None, description="Directory with your own pseudo_cot.txt, description.txt, reasoning.txt.")
    concurrency: int = Field(64, ge=1, description="Requests in flight.")
    retries: int = Field(4, ge=0, description="Times that a failed request is sent again.")


class SFT(Part):
    """Cold-start fine-tuning, section 4.1 and the released LLaMA-Factory files."""

    data: Source | None = Field(
        None, description="Chains of thought in a released sharegpt layout; null takes the cold start's output."
    )
    epochs: float = Field(2.0, gt=0, description="Passes over the data.")
    max_steps: int | None = Field(None, ge=1, description="Stop after this many optimiser steps; null runs all epochs.")
    global_batch_size: int = Field(32, ge=1, description="Samples an optimiser step.")
    cutoff_tokens: int = Field(16_384, ge=16, description="Longer samples are dropped and counted.")
    micro_batch_tokens: int = Field(16_384, ge=16, description="Tokens of one packed row; a longer sample has a row of its own.")
    learning_rate: float = Field(5e-6, gt=0, description="Peak learning rate.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW weight decay (commented out in the released file).")
    warmup_ratio: Probability = Field(
        0.05, description="Part of the steps with a rising learning rate; cosine decay to 0 after it."
    )
    max_grad_norm: float = Field(1.0, gt=0, description="Gradient clipping (not published; the trainer's default).")
    freeze_vision_tower: bool = Field(
        True, description="Train the language model only, as the released run did by its trainer's default."
    )
    zero_stage: ZeroStage = Field(3, description="DeepSpeed ZeRO stage; auto chooses by what fits on the GPUs.")
    processes: int = Field(8, ge=1, description="Training processes a node.")
    checkpoint_every: int = Field(1000, ge=1, description="Steps between checkpoints.")


class Stage(Part):
    """One stage of Progressive Thinking Suppression Training, section 3.4."""

    max_completion_tokens: int = Field(ge=1, description="Length limit L_s: a longer completion is cut and scores 0.")
    group_size: int = Field(ge=2, description="Completions sampled for each prompt, G_s.")
    steps: int = Field(100, ge=1, description="Optimiser steps (rollout batches) of this stage.")
    tensor_parallel: int = Field(1, ge=1, description="GPUs that share one vLLM engine in this stage.")
    carry: Literal["weights", "weights+optimizer"] = Field(
        "weights", description="What the stage takes over from the one before (not published)."
    )
    reference: Literal["initial", "previous_stage"] = Field(
        "initial",
        description="Weights that the KL term measures from: the cold-start model or the stage's start (not published).",
    )


class Algorithm(Part):
    """GRPO, equations 1 and 2."""

    prompts_per_step: int = Field(512, ge=1, description="Prompts an optimiser step (not published; EasyR1's rollout batch).")
    clip_low: float = Field(0.2, gt=0, description="Lower clip of the ratio, the paper's epsilon.")
    clip_high: float = Field(0.2, gt=0, description="Upper clip of the ratio, the paper's epsilon.")
    dual_clip: float | None = Field(
        None, gt=1, description="Bound on the loss of negative advantages; null is the paper's objective."
    )
    kl_beta: float = Field(1e-2, ge=0, description="Weight of the KL term; 0 keeps no reference model.")
    kl_estimator: Literal["k1", "k2", "k3"] = Field("k3", description="KL estimator; the paper's is k3.")
    normalise_by_std: bool = Field(True, description="Divide advantages by the group's standard deviation.")
    loss_aggregation: Literal["token_mean", "sequence_mean"] = Field(
        "token_mean", description="Mean over all tokens of the global batch, or over sequences (not published; EasyR1's)."
    )
    updates_per_batch: int = Field(
        1, ge=1, description="Optimiser steps on one rollout batch (not published); 1 needs no old-log-prob pass."
    )
    reference_device: Literal["auto", "gpu", "host"] = Field(
        "auto",
        description="Where the reference model is between its passes; auto takes the host where the GPU has no room for it.",
    )


class Optimiser(Part):
    """AdamW for GRPO; none of these values is published."""

    learning_rate: float = Field(1e-6, gt=0, description="Learning rate (not published; EasyR1's default).")
    warmup_steps: int = Field(0, ge=0, description="Steps of linear warm-up at the start of each stage (not published).")
    weight_decay: float = Field(1e-2, ge=0, description="Weight decay (not published; EasyR1's default).")
    betas: tuple[Probability, Probability] = Field((0.9, 0.999), description="AdamW's betas (not published).")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradient clipping (not published; EasyR1's default).")
    zero_stage: ZeroStage = Field("auto", description="DeepSpeed ZeRO stage; auto chooses by what fits on the GPUs.")
    micro_batch_tokens: int | None = Field(
        None,
        ge=16,
        description="Tokens of one packed row, prompts included; null chooses by what fits on the GPU, at most 20480 "
        "unless one sequence is longer.",
    )
    freeze_vision_tower: bool = Field(False, description="Keep the vision tower's weights (not published; EasyR1 trains it).")


class Rollout(Part):
    """Sampling."""

    engine: Literal["vllm", "hf"] = Field("vllm", description="vLLM, or transformers' generate where vLLM cannot be installed.")
    workers: int = Field(8, ge=1, description="Ray actors, one a GPU (or CPU slot); each trains and samples.")
    device: Literal["auto", "cuda", "cpu"] = Field("auto", description="Where workers run; auto takes the GPU if there is one.")
    temperature: float = Field(1.0, gt=0, description="Sampling temperature (not published; EasyR1's default).")
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus; anything but 1 biases the ratio.")
    gpu_memory_utilization: float | None = Field(
        None, gt=0, lt=1, description="Part of GPU memory that vLLM may take; null gives it what the trainer leaves free."
    )
    cpu_kv_cache_gib: float = Field(0.25, gt=0, description="KV cache of a CPU engine in GiB.")
    max_sequences: int = Field(256, ge=1, description="Sequences that one engine decodes at a time.")
    mismatch_limit: float | None = Field(
        None,
        gt=0,
        description="Mean absolute difference between the engine's and the trainer's log-probs that stops the run, and a "
        "hundredth of what stops it at one token; null: 3e-5 in float32, 0.05 in bfloat16.",
    )
    parity_every: int = Field(
        10,
        ge=1,
        description="Steps between parity probes, from a stage's first: right after the weight sync, engine and trainer must "
        "agree on a few tokens.",
    )

    @model_validator(mode="after")
    def _what_the_engine_takes(self) -> Rollout:
        if self.engine == "vllm" and self.temperature > 2:
            raise ValueError(f"temperature ({self.temperature}) is more than 2, which vLLM does not take")
        return self

    def on_gpu(self, there_is_one: bool) -> bool:
        """Whether workers compute on a GPU: the one rule, for the driver's cluster as for each process."""
        return self.device == "cuda" or (self.device == "auto" and there_is_one)


class Reward(Part):
    """The hard reward, section 3.4, or your own."""

    function: str = Field(
        "hfrrf",
        description="hfrrf (format and answer: 1, else 0), zero (half for format, half for the answer), or file.py:function.",
    )
    seconds_per_answer: float = Field(5.0, gt=0, description="Time limit of grading one answer; a hung one scores 0.")
    processes: int = Field(4, ge=1, description="Grading processes.")


class Evaluation(Part):
    """Scoring on held-out problems; the sampling values are the authors' (run_all.py)."""

    temperature: float = Field(0.6, ge=0, description="Sampling temperature; 0 is greedy.")
    top_p: float = Field(0.95, gt=0, le=1, description="Nucleus.")
    max_completion_tokens: int = Field(16_000, ge=1, description="Length limit.")
    samples: int = Field(1, ge=1, description="Completions a problem; accuracy is their mean (pass@1).")


class Checkpoint(Part):
    """What is kept."""

    every: int = Field(5, ge=1, description="GRPO steps between checkpoints; the paper compares every fifth step.")
    keep_last: int = Field(2, ge=1, description="Newest checkpoints of a phase that are kept.")
    keep_stage_end: int = Field(
        50,
        ge=0,
        description="Every fifth step within this many last steps of a stage is kept (appendix A picks the best of them).",
    )


class Metrics(Part):
    """What can be watched."""

    enabled: bool = Field(True, description="Serve /metrics and /healthz.")
    host: str = Field("127.0.0.1", description="Address that the driver and the workers listen on; 0.0.0.0 in a pod.")
    port: int = Field(
        9464, ge=0, le=65_535, description="Port of the driver; workers take port + 1 + rank; 0 takes any free ones."
    )
    save_rollouts: bool = Field(True, description="Keep every rollout (prompt id, tokens, reward parts, finish reason).")


class Recipe(Part):
    """A whole run: cold-start data, SFT, GRPO stages, evaluation."""

    name: str = Field("vision-r1", pattern=r"^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$", description="Name of the run.")
    seed: int = Field(1, ge=0, le=2**31 - 1, description="Seed of data order and sampling.")
    model: Model = Model()
    data: Data = Data()
    coldstart: ColdStart | None = Field(None, description="Modality bridging; null when SFT reads ready data or is left out.")
    sft: SFT | None = Field(None, description="Cold-start fine-tuning; null starts GRPO from model.base.")
    stages: tuple[Stage, ...] = Field((), description="GRPO stages in order, a list of any length.")
    algorithm: Algorithm = Algorithm()
    optimiser: Optimiser = Optimiser()
    rollout: Rollout = Rollout()
    reward: Reward = Reward()
    evaluation: Evaluation = Evaluation()
    checkpoint: Checkpoint = Checkpoint()
    metrics: Metrics = Metrics()

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if self.sft and self.sft.data is None and self.coldstart is None:
            raise ValueError("sft.data is null and there is no coldstart section to make it: set one of the two")
        if self.sft is None and not self.stages:
            raise ValueError("nothing to do: give an sft section, stages, or both")
        if self.stages and self.algorithm.prompts_per_step % self.rollout.workers:
            raise ValueError(
                f"algorithm.prompts_per_step ({self.algorithm.prompts_per_step}) is not a multiple of "
                f"rollout.workers ({self.rollout.workers})"
            )
        if self.model.dtype == "bfloat16" and 1 in (self.optimiser.zero_stage, self.sft and self.sft.zero_stage):
            raise ValueError("zero_stage 1 is for model.dtype float32 only: take 2, which needs less memory")
        for index, stage in enumerate(self.stages):
            if self.rollout.workers % stage.tensor_parallel:
                raise ValueError(
                    f"stages.{index}.tensor_parallel ({stage.tensor_parallel}) does not divide "
                    f"rollout.workers ({self.rollout.workers})"
                )
        return self
