"""The table of all metrics: names, kinds, units, labels and meanings.

Exporter, step log, reference page and dashboards are made from it. Names follow Prometheus' rules: base units, `_total` for
counters. Every instrument has the labels `run`, `stage` and `role`; pod and node come from the scrape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

LABELS: Final = ("run", "stage", "role")
"""Labels of every instrument. `stage` is 1, 2, ... in GRPO and the phase's name elsewhere."""


@dataclass(frozen=True)
class Instrument:
    """One metric.

    `label` is its own label, in addition to LABELS. The value is then a mapping from the label's values to numbers.
    `key` is the key of its value in `Exporter.update`. A counter grows by that value. None: the exporter computes it.
    `logged`: step records have that key, too. Otherwise only the process that measures the value has it.
    """

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    unit: str
    help: str
    key: str | None = None
    label: str | None = None
    logged: bool = True


def _gauge(key: str, unit: str, help: str, label: str | None = None, logged: bool = True) -> Instrument:
    return Instrument(f"visionr1_{key}", "gauge", unit, help, key, label, logged)


def _counter(name: str, unit: str, help: str, key: str | None = None, logged: bool = True) -> Instrument:
    return Instrument(f"visionr1_{name}_total", "counter", unit, help, key, logged=logged)


TABLE: Final[tuple[Instrument, ...]] = (
    _counter("steps", "steps", "Training steps that this process has finished."),
    _gauge("step", "steps", "Global step of the newest record."),
    Instrument("visionr1_last_step_timestamp_seconds", "gauge", "seconds", "When the newest step ended, in Unix time.", "time"),
    _gauge("step_seconds", "seconds", "How long each part of the newest step took.", "phase"),
    # Where the stage is: set once, when the process begins.
    _gauge("started_timestamp_seconds", "seconds", "When this attempt at the phase began, in Unix time.", logged=False),
    _gauge("stage_first_step", "steps", "Global step before this stage's first step.", logged=False),
    _gauge("stage_last_step", "steps", "Global step that ends this stage (in SFT: its number of steps).", logged=False),
    _gauge("completion_tokens_limit", "tokens", "Length limit of the stage. A longer completion is cut.", logged=False),
    _counter(
        "pause_seconds",
        "seconds",
        "Time without training before this process's first step, counted from the newest step that was kept: what a loss, a stop "
        "or a queue has cost.",
        "pause_seconds",
    ),
    _gauge("workers", "workers", "GRPO workers that made the newest step."),
    # Reward and advantage.
    _gauge("reward_mean", "reward", "Mean reward of the step's completions."),
    _gauge("reward_std", "reward", "Standard deviation of the step's rewards."),
    _gauge("reward_component_mean", "reward", "Mean of each part of the reward.", "component"),
    _gauge("advantage_zero_std_ratio", "ratio", "Share of groups in which all rewards are equal. Nothing is learned from them."),
    _counter("grading_timeouts", "answers", "Answers that took too long to grade and scored 0.", "grading_timeouts"),
    # Length: what PTST is about.
    Instrument(
        "visionr1_completion_tokens", "histogram", "tokens", "Lengths of completions. The last bound is the stage's limit."
    ),
    _gauge("completion_tokens_mean", "tokens", "Mean length of the step's completions."),
    _gauge("completion_tokens_max", "tokens", "Length of the step's longest completion."),
    _gauge("completion_truncated_ratio", "ratio", "Share of completions that were cut at the stage's limit."),
    # Throughput.
    _counter(
        "rollout_generated_tokens",
        "tokens",
        "Completion tokens sampled by this process. The driver's value is for all workers.",
        "generated_tokens",
    ),
    _counter(
        "trained_tokens", "tokens", "Tokens with a loss in this process. The driver's value is for all workers.", "trained_tokens"
    ),
    _gauge(
        "rollout_tail_seconds",
        "seconds",
        "Part of the rollout in which less than a quarter of an engine's slots were busy, on the engine with the longest.",
    ),
    _gauge("idle_passes", "passes", "Passes of the newest update that trained nothing, on workers with fewer rows than others."),
    # Distance from what the hardware allows; docs/monitoring.md has the formulas.
    _gauge(
        "mfu_ratio",
        "ratio",
        "Model FLOPs of a part of the step, divided by what the device could do in that time.",
        "phase",
        False,
    ),
    _gauge(
        "roofline_ratio",
        "ratio",
        "Least possible time of a part of the step (roofline), divided by its real time. 1 is perfect.",
        "phase",
        False,
    ),
    _gauge(
        "floor_seconds", "seconds", "Least time that the device needs for a part of the step (roofline).", "phase", logged=False
    ),
    _gauge(
        "peak_flops_per_second",
        "FLOP/s",
        "Peak speed for the ratios: published for a GPU, measured on a CPU.",
        "device",
        False,
    ),
    _gauge("peak_memory_bytes_per_second", "byte/s", "Peak memory bandwidth for the ratios.", "device", False),
    # vLLM's own numbers, read from this worker's engine at each scrape.
    _gauge("vllm_running_requests", "requests", "Sequences that the engine is decoding.", logged=False),
    _gauge("vllm_waiting_requests", "requests", "Sequences that wait for room in the engine.", logged=False),
    _gauge("vllm_kv_cache_usage_ratio", "ratio", "Share of the KV cache that is in use.", logged=False),
    _counter(
        "vllm_preemptions", "sequences", "Sequences that lost their KV cache and had to start over.", "vllm_preemptions", False
    ),
    _gauge(
        "vllm_sleep_state",
        "1",
        "1 for the present state of the engine: awake, or discard_all (no weights, no cache).",
        "state",
        False,
    ),
    # Optimisation.
    _gauge("loss", "1", "Training loss of the step."),
    _gauge("learning_rate", "1", "Learning rate of the step."),
    _gauge("grad_norm", "1", "Norm of the gradient before clipping."),
    _gauge("kl_mean", "nats", "Mean KL estimate per token, against the reference model."),
    _gauge(
        "entropy_mean", "nats", "Mean entropy of the policy per token. Without a KL term, groups with equal rewards are left out."
    ),
    _gauge("clip_ratio", "ratio", "Share of tokens with a clipped probability ratio."),
    _gauge(
        "logprob_mismatch",
        "nats",
        "Mean absolute difference per token between the log-probs of rollout engine and trainer, over the same tokens.",
    ),
    _gauge("logprob_mismatch_max", "nats", "Largest such difference in the step's rollouts."),
    _gauge(
        "parity_probe_mean", "nats", "The same mean over a parity probe's tokens, right after a weight sync, on the worst worker."
    ),
    _gauge("parity_probe_max", "nats", "Largest difference in a parity probe."),
    # Health.
    _gauge("host_memory_bytes", "bytes", "Resident memory of this process. In GRPO's step log, the first worker's."),
    _gauge("checkpoint_bytes", "bytes", "Size of the newest checkpoint."),
    Instrument("visionr1_checkpoint_step", "gauge", "steps", "Global step of the newest committed checkpoint."),
    Instrument(
        "visionr1_checkpoint_upload_seconds",
        "gauge",
        "seconds",
        "How long upload and commit of the newest checkpoint took. On S3, steps go on during it.",
    ),
    Instrument(
        "visionr1_checkpoint_age_seconds",
        "gauge",
        "seconds",
        "Work that would be lost now: time since the last committed step, or since the process began if none is committed.",
    ),
    # Cold-start data.
    _gauge("coldstart_problems", "problems", "Problems of the cold start.", logged=False),
    _gauge("coldstart_answered", "problems", "Problems that have all replies, or have failed.", logged=False),
    _counter("coldstart_requests", "requests", "Requests sent to the teachers.", "coldstart_requests", False),
    _counter("coldstart_failures", "problems", "Problems that were given up after all retries.", "coldstart_failures", False),
    Instrument(
        "visionr1_coldstart_tokens_total",
        "counter",
        "tokens",
        "Tokens of prompts and replies, as the endpoints count them.",
        "coldstart_tokens",
        "teacher",
        False,
    ),
    Instrument(
        "visionr1_coldstart_cost",
        "gauge",
        "currency",
        "What this process's tokens cost at the recipe's prices.",
        "coldstart_cost",
        "teacher",
        False,
    ),
    _gauge("coldstart_kept", "problems", "Problems that gave a sample.", logged=False),
    _gauge("coldstart_dropped", "problems", "Problems that gave no sample, by the rule that dropped them.", "rule", False),
)

RECORD_KEYS: Final = frozenset({"phase", "stage"} | {item.key for item in TABLE if item.key and item.logged})
"""Every key that a step record may have."""
