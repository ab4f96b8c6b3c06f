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
    `key` is the key of a step record that feeds it; a counter grows by the record's value. None: the exporter makes it itself.
    """

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    unit: str
    help: str
    key: str | None = None
    label: str | None = None


def _gauge(key: str, unit: str, help: str, label: str | None = None) -> Instrument:
    return Instrument(f"visionr1_{key}", "gauge", unit, help, key, label)


def _counter(name: str, unit: str, help: str, key: str | None = None) -> Instrument:
    return Instrument(f"visionr1_{name}_total", "counter", unit, help, key)


TABLE: Final[tuple[Instrument, ...]] = (
    _counter("steps", "steps", "Training steps that this process has finished."),
    _gauge("step", "steps", "Global step of the newest record."),
    Instrument("visionr1_last_step_timestamp_seconds", "gauge", "seconds", "When the newest step ended, as Unix time.", "time"),
    _gauge("step_seconds", "seconds", "How long each part of the newest step took.", "phase"),
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
    _counter("rollout_generated_tokens", "tokens", "Completion tokens sampled by this process.", "generated_tokens"),
    _counter("trained_tokens", "tokens", "Tokens that carried a loss in this process.", "trained_tokens"),
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
    _gauge("host_memory_bytes", "bytes", "Resident memory of the training process."),
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
)

RECORD_KEYS: Final = frozenset({"phase", "stage"} | {instrument.key for instrument in TABLE if instrument.key})
"""Every key that a step record may have."""
