"""The one table of what can be watched: names, kinds, units, labels and meanings.

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
    """One thing to watch.

    `label` is a label of its own besides LABELS; its record value is a mapping from the label's value to a number.
    `key` is what feeds it in `Exporter.update`; a counter grows by the value. None: the exporter makes it itself.
    `logged` says that step records have that key, too; otherwise only the process that measures it tells it.
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
    Instrument("visionr1_last_step_timestamp_seconds", "gauge", "seconds", "When the newest step ended, as Unix time.", "time"),
    _gauge("step_seconds", "seconds", "How long each part of the newest step took.", "phase"),
    # Where the stage is: told once, when the process begins.
    _gauge("started_timestamp_seconds", "seconds", "When this attempt at its phase began, as Unix time.", logged=False),
    _gauge("stage_first_step", "steps", "Global step before the first of this stage.", logged=False),
    _gauge("stage_last_step", "steps", "Global step that ends this stage (SFT: its number of steps).", logged=False),
    _gauge("completion_tokens_limit", "tokens", "The stage's length limit: a longer completion is cut.", logged=False),
    # Reward and advantage.
    _gauge("reward_mean", "reward", "Mean reward of the step's completions."),
    _gauge("reward_std", "reward", "Standard deviation of the step's rewards."),
    _gauge("reward_component_mean", "reward", "Mean of each part of the reward before they are joined.", "component"),
    _gauge("advantage_zero_std_ratio", "ratio", "Groups whose completions all have the same reward: they teach nothing."),
    _counter("grading_timeouts", "answers", "Answers that took too long to grade and scored 0.", "grading_timeouts"),
    # Length: what PTST is about.
    Instrument("visionr1_completion_tokens", "histogram", "tokens", "Length of completions; the last bound is the limit."),
    _gauge("completion_tokens_mean", "tokens", "Mean length of the step's completions."),
    _gauge("completion_tokens_max", "tokens", "Longest of the step's completions."),
    _gauge("completion_truncated_ratio", "ratio", "Completions cut at the stage's limit: how much the limit binds."),
    # Throughput.
    _counter(
        "rollout_generated_tokens",
        "tokens",
        "Completion tokens sampled here; the driver's: by all workers.",
        "generated_tokens",
    ),
    _counter("trained_tokens", "tokens", "Tokens that carried a loss here; the driver's: in all workers.", "trained_tokens"),
    # Distance from what the hardware allows; docs/monitoring.md has the formulas.
    _gauge("mfu_ratio", "ratio", "Model FLOPs of a part of the step over what the device could do in that time.", "phase", False),
    _gauge("roofline_ratio", "ratio", "Roofline floor of a part of the step over its real time: 1 is perfect.", "phase", False),
    _gauge("floor_seconds", "seconds", "Least time that the device needs for a part of the step.", "phase", logged=False),
    _gauge(
        "peak_flops_per_second",
        "FLOP/s",
        "Peak of the ratios: published for a GPU, measured on a CPU.",
        "device",
        False,
    ),
    _gauge("peak_memory_bytes_per_second", "byte/s", "Peak memory bandwidth that the ratios refer to.", "device", False),
    # vLLM's own numbers, read from the engine in this worker at the time of the scrape.
    _gauge("vllm_running_requests", "requests", "Sequences that the engine decodes now.", logged=False),
    _gauge("vllm_waiting_requests", "requests", "Sequences that wait for room in the engine.", logged=False),
    _gauge("vllm_kv_cache_usage_ratio", "ratio", "Part of the KV cache in use.", logged=False),
    _counter("vllm_preemptions", "sequences", "Sequences that lost their KV cache and start over.", "vllm_preemptions", False),
    _gauge(
        "vllm_sleep_state",
        "1",
        "1 for the engine's present state: awake, or discard_all (without weights and cache).",
        "state",
        False,
    ),
    # Optimisation.
    _gauge("loss", "1", "Training loss of the step."),
    _gauge("learning_rate", "1", "Learning rate of the step."),
    _gauge("grad_norm", "1", "Norm of the gradient before clipping."),
    _gauge("kl_mean", "nats", "Mean KL estimate of a token against the reference model."),
    _gauge("entropy_mean", "nats", "Mean entropy of the policy at a token."),
    _gauge("clip_ratio", "ratio", "Tokens whose probability ratio was clipped."),
    _gauge("logprob_mismatch", "nats", "Mean absolute difference of a token's log-prob between rollout engine and trainer."),
    _gauge("logprob_mismatch_max", "nats", "The largest such difference in the step's rollouts."),
    _gauge("parity_probe_mean", "nats", "The same mean right after a weight sync, over a probe's tokens, on the worst worker."),
    _gauge("parity_probe_max", "nats", "The largest difference in a probe."),
    # Health.
    _gauge("host_memory_bytes", "bytes", "Resident memory of this process; in the log of GRPO the first worker's."),
    _gauge("checkpoint_bytes", "bytes", "Size of the newest checkpoint."),
    Instrument("visionr1_checkpoint_step", "gauge", "steps", "Global step of the newest committed checkpoint."),
    Instrument(
        "visionr1_checkpoint_upload_seconds",
        "gauge",
        "seconds",
        "How long upload and commit of the newest checkpoint took; on S3 steps go on meanwhile.",
    ),
    Instrument(
        "visionr1_checkpoint_age_seconds",
        "gauge",
        "seconds",
        "Work that would be lost now: time since the step of the last commit, or since the process began if it made none.",
    ),
    # Cold-start data.
    _gauge("coldstart_problems", "problems", "Problems that the cold start asks about.", logged=False),
    _gauge("coldstart_answered", "problems", "Problems that have their replies, or failed.", logged=False),
    _counter("coldstart_requests", "requests", "Requests sent to the teachers.", "coldstart_requests", False),
    _counter("coldstart_failures", "problems", "Problems given up after all retries.", "coldstart_failures", False),
    _gauge("coldstart_kept", "problems", "Problems that gave a sample.", logged=False),
    _gauge("coldstart_dropped", "problems", "Problems that gave none, by the rule that dropped them.", "rule", False),
)

RECORD_KEYS: Final = frozenset({"phase", "stage"} | {item.key for item in TABLE if item.key and item.logged})
"""Every key that a step record may have."""
