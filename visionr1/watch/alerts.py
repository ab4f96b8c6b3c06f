"""The alerts: Prometheus rules, and a runbook paragraph for each.

`@name@` in an expression is a threshold of `visionr1.watch.thresholds`, `@namespace@` that of the chart's release. Several
series of one run are told apart by the labels of the scrape, which `and` and arithmetic keep.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

RUNBOOKS: Final = "docs/alerts.md"
_REWARD: Final = 'visionr1_reward_mean{role="driver"}'
_LENGTH: Final = 'visionr1_completion_tokens_mean{role="driver"}'


@dataclass(frozen=True)
class Alert:
    """One rule. `hold` is how long `expr` must be true; `summary` may use the series' labels; `runbook` is Markdown."""

    name: str
    severity: Literal["critical", "warning"]
    expr: str
    hold: str
    summary: str
    runbook: str

    @property
    def anchor(self) -> str:
        """The name of its heading on the page of alerts."""
        return self.name.lower()


ALERTS: Final[tuple[Alert, ...]] = (
    Alert(
        "VisionR1StepStalled",
        "critical",
        '(time() - (visionr1_last_step_timestamp_seconds{role=~"driver|sft"}'
        ' or visionr1_started_timestamp_seconds{role=~"driver|sft"})) > @stalledSeconds@',
        "2m",
        "{{ $labels.run }}: no step of {{ $labels.stage }} has ended for {{ $value | humanizeDuration }}",
        "The process lives and answers, but no step ends. Look at the driver's log (the local run's `phases/<phase>/attempt-<n>/"
        "log.txt`, or `kubectl logs`) for the part of the step that it is in, and at the GPUs: at 100 % and full power on all "
        "but one, a collective waits for a lost peer; at 0 %, the rollout or an upload hangs. If nothing moves, end the process: "
        "the next attempt goes on from the last committed checkpoint. If a step really takes so long, raise `stalledSeconds`.",
    ),
    Alert(
        "VisionR1RewardCollapse",
        "critical",
        f"avg_over_time({_REWARD}[30m]) < @rewardDropRatio@ * max_over_time({_REWARD}[6h])"
        f" and max_over_time({_REWARD}[6h]) > @rewardSeen@",
        "10m",
        '{{ $labels.run }}: the reward of stage {{ $labels.stage }} fell to {{ $value | printf "%.2f" }}, far below its best',
        "The policy has left the region that earns reward; it seldom comes back. Look at KL and gradient norm before the fall (a "
        "learning rate that is too high shows there first), at the format component (broken tags) and at truncation (endless "
        "text). Read some completions of the newest `rollouts/<phase>/step-<k>.jsonl.zst`. Stop the run, take a checkpoint from "
        "before the fall, and go on with a lower `optimiser.learning_rate` or a higher `algorithm.kl_beta`.",
    ),
    Alert(
        "VisionR1Overthinking",
        "warning",
        f"avg_over_time({_LENGTH}[30m]) > @lengthGrowthRatio@ * avg_over_time({_LENGTH}[30m] offset 2h)"
        f" and avg_over_time({_REWARD}[30m]) >= avg_over_time({_REWARD}[30m] offset 2h)",
        "15m",
        "{{ $labels.run }}: completions of stage {{ $labels.stage }} grow to {{ $value | humanize }} tokens, the reward holds",
        "The reward does not fall, but thoughts grow by half within two hours: what the paper calls overthinking, and what "
        "PTST's short first stages are there to prevent. Compare accuracy by length in the report's figure A. If long answers "
        "are not the better ones, stop the stage early or give it a smaller `max_completion_tokens`; in a late stage, with "
        "accuracy rising, it is what the stage is for, and the alert may be silenced.",
    ),
    Alert(
        "VisionR1TruncationHigh",
        "warning",
        'visionr1_completion_truncated_ratio{role="driver"} > @truncatedRatio@'
        ' and (visionr1_step{role="driver"} - visionr1_stage_first_step{role="driver"}) > @truncatedAfterSteps@',
        "10m",
        "{{ $labels.run }}: {{ $value | humanizePercentage }} of completions are cut at the limit of stage {{ $labels.stage }}",
        "A cut completion has no answer and scores 0. At a stage's start much is cut, and that pressure is the method; after 50 "
        "steps it should be gone. If truncation still falls, wait. If it stands still, the limit is too small for these "
        "problems: raise `max_completion_tokens` (and lower `group_size` by the same factor), or lengthen the stage before.",
    ),
    Alert(
        "VisionR1ZeroSignal",
        "warning",
        'visionr1_advantage_zero_std_ratio{role="driver"} > @zeroSignalRatio@',
        "15m",
        "{{ $labels.run }}: {{ $value | humanizePercentage }} of the groups of stage {{ $labels.stage }} teach nothing",
        "All completions of a group have the same reward, so its advantages are 0. With a high reward the problems are too easy: "
        "take harder ones, or end the stage. With a low one they are too hard, or no answer is read as right: check the format "
        "component, then `visionr1 grade` on some rollouts. A larger `group_size` helps in between.",
    ),
    Alert(
        "VisionR1LogprobMismatch",
        "critical",
        'visionr1_logprob_mismatch{role="driver"} > @mismatchNats@ or visionr1_parity_probe_mean{role="driver"} > @mismatchNats@',
        "5m",
        '{{ $labels.run }}: engine and trainer disagree by {{ $value | printf "%.3f" }} nats a token',
        "vLLM samples from another model than the one that is trained, so the ratio of the objective is wrong. bfloat16 alone "
        "gives 0.01 to 0.03 nats. A jump at a step's border means weights that did not arrive (a changed tensor name, tied "
        "heads); one that grows slowly, different numerics (attention backend, a quantised cache). The run stops by itself at "
        "`rollout.mismatch_limit`; do not raise that limit before the cause is known.",
    ),
    Alert(
        "VisionR1LossNotFinite",
        "critical",
        '(visionr1_loss{role=~"driver|sft"} != visionr1_loss{role=~"driver|sft"})'
        ' or (visionr1_grad_norm{role=~"driver|sft"} != visionr1_grad_norm{role=~"driver|sft"})'
        ' or (abs(visionr1_loss{role=~"driver|sft"}) == Inf) or (abs(visionr1_grad_norm{role=~"driver|sft"}) == Inf)',
        "0m",
        "{{ $labels.run }}: loss or gradient norm of {{ $labels.stage }} is not finite",
        "Weights that were updated with such a gradient are lost; a GRPO stage records the step and ends, so this may be seen in "
        "one scrape only and again as `VisionR1ChildRetries`. Go on from the last checkpoint with a lower learning rate. If "
        "it happens at the same step again, look at that step's data: `rollouts/<phase>/step-<k>.jsonl.zst` of the step before.",
    ),
    Alert(
        "VisionR1CheckpointTooOld",
        "warning",
        'visionr1_checkpoint_age_seconds{role=~"driver|sft"} > @checkpointAgeSeconds@',
        "5m",
        "{{ $labels.run }}: {{ $value | humanizeDuration }} of {{ $labels.stage }} would be lost now",
        "No checkpoint was written for so long. Steps are slower than planned, or the storage is: see the `checkpoint` part of "
        "the step's time. Lower `checkpoint.every`, free space in the run directory or its bucket, or raise "
        "`checkpointAgeSeconds` to what you can afford to lose.",
    ),
    Alert(
        "VisionR1HostMemoryGrowing",
        "warning",
        "deriv(visionr1_host_memory_bytes[1h]) * 3600 > @hostMemoryBytesPerHour@ and visionr1_host_memory_bytes offset 1h",
        "30m",
        "{{ $labels.run }}: memory of a {{ $labels.role }} grows by {{ $value | humanize1024 }}B an hour",
        "A process of the run needs more and more host memory and will be killed. See which pod and role on the dashboard *GPUs "
        "and pods*. Growth in the first hour (caches, compiled kernels) does not count. A stop and start goes on from the last "
        "checkpoint with fresh processes; do that before the node does it for you, and report the leak with the role that grows.",
    ),
    Alert(
        "VisionR1GpuXid",
        "critical",
        "DCGM_FI_DEV_XID_ERRORS > 0",
        "0m",
        "GPU {{ $labels.gpu }} of {{ $labels.Hostname }} reports XID {{ $value }}",
        "The driver has seen a hardware or program fault; the number says which (NVIDIA's XID catalogue). 13, 31, 43 and 45 are "
        "mostly a program's own fault; 48, 63, 64, 74, 79, 94 and 95 are memory, NVLink or the bus. For those: cordon the node "
        "(`kubectl cordon`), end the pod so that the run goes on elsewhere, reset or replace the GPU. The value stays until the "
        "exporter restarts.",
    ),
    Alert(
        "VisionR1ChildRetries",
        "warning",
        "round(increase(visionr1_ptst_child_restarts_total[1h])) > @childRestartsPerHour@",
        "0m",
        "{{ $labels.run }}: phase {{ $labels.stage }} was tried again {{ $value | humanize }} times within an hour",
        "A phase fails again and again; each time the work since its last checkpoint is lost. `kubectl describe ptst NAME` has "
        "the attempts with their reasons; the log of the last child has the error. After `retry.failures` failures without a new "
        "checkpoint the run is failed; fix the cause, then start it again: it goes on where it was.",
    ),
    Alert(
        "VisionR1ReconcileErrors",
        "warning",
        "increase(visionr1_ptst_reconcile_errors_total[15m]) > @reconcileErrors@",
        "5m",
        "the operator failed {{ $value | humanize }} times within 15 minutes ({{ $labels.reason }})",
        "The operator cannot look at runs or act on them; runs that train go on meanwhile. The reason is a label and in its log: "
        "forbidden (RBAC was changed), conflict (another controller writes the same fields), timeout (the API server or S3), or "
        "a CRD that is missing.",
    ),
    Alert(
        "VisionR1OperatorDown",
        "critical",
        'absent(visionr1_ptst_reconcile_seconds_count{namespace="@namespace@"})',
        "5m",
        "no operator is scraped in {{ $labels.namespace }}: phases will not follow one another",
        "What trains goes on; but no phase is started, retried or stopped. `kubectl get pods -l "
        "app.kubernetes.io/name=visionr1-ptst` and the pod's events say whether it runs; if it does, Prometheus does not select "
        "its PodMonitor (its labels) or a NetworkPolicy keeps it out (`networkPolicy.monitoringNamespace`). This rule is "
        "the chart's alone: a run on one machine has no operator.",
    ),
)


def rules(*, chart: bool) -> dict[str, Any]:
    """The rules file as data, with `@name@` for thresholds; without `chart`, only what any Prometheus can use."""
    chosen = [alert for alert in ALERTS if chart or "@namespace@" not in alert.expr]
    return {"groups": [{"name": "visionr1-ptst", "rules": [_rule(alert) for alert in chosen]}]}


def _rule(alert: Alert) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expr,
        "for": alert.hold,
        "labels": {"severity": alert.severity},
        "annotations": {"summary": alert.summary, "runbook": f"{RUNBOOKS}#{alert.anchor}"},
    }
