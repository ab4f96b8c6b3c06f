"""The dashboards *Run* and *Throughput*: what a run learns, and how fast."""

from __future__ import annotations

from typing import Final

from visionr1.watch.grafana import Dashboard, Panel, Query, Row

BY_POD: Final = "{{role}} {{pod}} {{instance}}"


def select(name: str, role: str, *more: str) -> str:
    """A metric of the chosen runs; `role` is a regular expression."""
    chosen = ['namespace=~"$namespace"', 'run=~"$run"', f'role=~"{role}"', *more]
    return f"{name}{{{','.join(chosen)}}}"


def by_pod(name: str, role: str, *more: str) -> str:
    """A metric of the chosen pods."""
    return select(name, role, 'pod=~"$pod"', *more)


def _driver(name: str) -> str:
    return select(name, "driver")


def _trainers(name: str) -> str:
    return select(name, "driver|sft")


def _quantile(part: float) -> Query:
    counts = f"sum by (run, stage, le) (rate({_driver('visionr1_completion_tokens_bucket')}[$window]))"
    return Query(f"histogram_quantile({part}, {counts})", f"{{{{run}}}} stage {{{{stage}}}} p{part * 100:.0f}")


_HERE: Final = "{{run}} stage {{stage}}"
_DONE: Final = f"{_trainers('visionr1_step')} - {_trainers('visionr1_stage_first_step')}"
_SECONDS: Final = f"sum without (phase) (avg_over_time({_trainers('visionr1_step_seconds')}[$window]))"

RUN: Final = Dashboard(
    "visionr1-run",
    "Vision-R1 / Run",
    "What a run learns: phase, reward, length against the stage's limit, and whether the optimisation is sound.",
    (
        Row(
            "Where it is",
            (
                Panel(
                    "Phase",
                    "short",
                    "The operator's view of each run. Good: Running, then Succeeded. Bad: Held or Failed.",
                    (
                        Query(
                            'visionr1_ptst_run_phase{namespace=~"$namespace",run=~"$run"} == 1',
                            "{{run}} {{phase}}",
                        ),
                    ),
                    "stat",
                    4,
                ),
                Panel(
                    "Step of the stage",
                    "short",
                    "Steps done in the stage that runs (a stage of the paper has 100). Bad: it stands still.",
                    (Query(_DONE, _HERE),),
                    "stat",
                    5,
                ),
                Panel(
                    "Stage done",
                    "percentunit",
                    "Part of the stage's steps that is done. It should move at a constant pace.",
                    (
                        Query(
                            f"({_DONE}) / ({_trainers('visionr1_stage_last_step')} - {_trainers('visionr1_stage_first_step')})",
                            _HERE,
                        ),
                    ),
                    "gauge",
                    5,
                ),
                Panel(
                    "Time left in the stage",
                    "s",
                    "Steps left times the recent step time. Bad: it grows, because steps get slower.",
                    (Query(f"({_trainers('visionr1_stage_last_step')} - {_trainers('visionr1_step')}) * {_SECONDS}", _HERE),),
                    "stat",
                    5,
                ),
                Panel(
                    "Since the last step",
                    "s",
                    "Good: below the step time. Many times that is a run that hangs.",
                    (Query(f"time() - {_trainers('visionr1_last_step_timestamp_seconds')}", _HERE),),
                    "stat",
                    5,
                ),
            ),
        ),
        Row(
            "Reward",
            (
                Panel(
                    "Reward",
                    "short",
                    "Mean of the step's completions. Good: rises and flattens. Bad: falls for many steps, or stays at 0.",
                    (
                        Query(_driver("visionr1_reward_mean"), f"{_HERE} mean"),
                        Query(_driver("visionr1_reward_std"), f"{_HERE} std"),
                    ),
                ),
                Panel(
                    "Parts of the reward",
                    "percentunit",
                    "Format and accuracy before they are joined. Format near 1 early; a fall of format alone means broken tags.",
                    (Query(_driver("visionr1_reward_component_mean"), f"{_HERE} {{{{component}}}}"),),
                ),
                Panel(
                    "Groups without a signal",
                    "percentunit",
                    "Groups whose rewards are all equal. Good: below half. Above 70 % most of the rollout is wasted.",
                    (Query(_driver("visionr1_advantage_zero_std_ratio"), _HERE),),
                ),
            ),
        ),
        Row(
            "Length",
            (
                Panel(
                    "Completion length",
                    "short",
                    "Quantiles in tokens with the stage's limit. Good: below the limit, growing late. Bad: pressed to the limit.",
                    (
                        _quantile(0.5),
                        _quantile(0.9),
                        _quantile(0.99),
                        Query(_driver("visionr1_completion_tokens_mean"), f"{_HERE} mean"),
                        Query(_driver("visionr1_completion_tokens_limit"), f"{_HERE} limit"),
                    ),
                ),
                Panel(
                    "Where lengths lie",
                    "short",
                    "Completions by length. Good: one band. Two bands, one at the limit, are thoughts that never end.",
                    (Query(f"sum by (le) (increase({_driver('visionr1_completion_tokens_bucket')}[$window]))", "{{le}}"),),
                    "heatmap",
                ),
                Panel(
                    "Cut at the limit",
                    "percentunit",
                    "High at a stage's start, and then it falls: that is PTST. Bad: above 30 % after 50 steps.",
                    (Query(_driver("visionr1_completion_truncated_ratio"), _HERE),),
                ),
            ),
        ),
        Row(
            "Optimisation",
            (
                Panel(
                    "Loss",
                    "short",
                    "SFT: falls. GRPO: small and around 0, of no meaning by its size. Bad: gaps (not finite) or spikes.",
                    (Query(_trainers("visionr1_loss"), _HERE),),
                    width=6,
                ),
                Panel(
                    "KL",
                    "short",
                    "Nats a token from the reference model. Good: rises slowly. Bad: jumps, or more than about 1.",
                    (Query(_driver("visionr1_kl_mean"), _HERE),),
                    width=6,
                ),
                Panel(
                    "Entropy",
                    "short",
                    "Nats a token. Good: falls slowly. Near 0 the policy no longer explores; a rise announces a collapse.",
                    (Query(_driver("visionr1_entropy_mean"), _HERE),),
                    width=6,
                ),
                Panel(
                    "Gradient norm",
                    "short",
                    "Before clipping. Good: steady. Bad: spikes of ten times its usual size.",
                    (Query(_trainers("visionr1_grad_norm"), _HERE),),
                    width=6,
                ),
                Panel(
                    "Engine against trainer",
                    "short",
                    "Mean difference of a token's log-prob in nats. bfloat16: 0.01 to 0.03, float32: below 0.00001. Bad: 0.05.",
                    (
                        Query(_driver("visionr1_logprob_mismatch"), f"{_HERE} rollouts"),
                        Query(_driver("visionr1_parity_probe_mean"), f"{_HERE} probe"),
                    ),
                    width=6,
                ),
                Panel(
                    "Clipped tokens",
                    "percentunit",
                    "0 with one update a batch; else a few per cent. More than 20 %: too many updates, or too high a rate.",
                    (Query(_driver("visionr1_clip_ratio"), _HERE),),
                    width=6,
                ),
                Panel(
                    "Learning rate",
                    "sci",
                    "As the recipe says: SFT warms up and decays, GRPO is constant. Anything else is another recipe.",
                    (Query(_trainers("visionr1_learning_rate"), _HERE),),
                    width=6,
                ),
                Panel(
                    "Answers too slow to grade",
                    "short",
                    "Within the window. Good: 0. Many: answers that a grader cannot compare in time score 0.",
                    (Query(f"increase({_driver('visionr1_grading_timeouts_total')}[$window])", _HERE),),
                    width=6,
                ),
            ),
        ),
        Row(
            "Checkpoints and cold start",
            (
                Panel(
                    "Work that would be lost",
                    "s",
                    "Time since the step of the last commit. Good: a saw. Bad: a line that rises without end.",
                    (Query(_trainers("visionr1_checkpoint_age_seconds"), _HERE),),
                ),
                Panel(
                    "Steps not committed yet",
                    "short",
                    "Good: a saw up to checkpoint.every, and a little more while an upload goes on. Bad: it only rises.",
                    (Query(f"{_trainers('visionr1_step')} - {_trainers('visionr1_checkpoint_step')}", _HERE),),
                ),
                Panel(
                    "Upload and commit",
                    "s",
                    "Of the newest checkpoint. Good: much less than the time between two. On S3 steps go on meanwhile.",
                    (Query(_trainers("visionr1_checkpoint_upload_seconds"), _HERE),),
                ),
                Panel(
                    "Checkpoint size",
                    "bytes",
                    "Constant within a stage: about 14 bytes a parameter with bfloat16 weights. Bad: it changes.",
                    (Query(_trainers("visionr1_checkpoint_bytes"), _HERE),),
                ),
                Panel(
                    "Cold start: requests",
                    "reqps",
                    "Requests to the teachers, and problems given up. Good: steady, none given up.",
                    (
                        Query(f"rate({select('visionr1_coldstart_requests_total', 'coldstart')}[$window])", "{{run}} requests"),
                        Query(f"rate({select('visionr1_coldstart_failures_total', 'coldstart')}[$window])", "{{run}} given up"),
                    ),
                ),
                Panel(
                    "Cold start: problems",
                    "short",
                    "Answered, kept, dropped by rule. Good: most are kept. One rule that drops most: look at its example.",
                    (
                        Query(select("visionr1_coldstart_problems", "coldstart"), "{{run}} all"),
                        Query(select("visionr1_coldstart_answered", "coldstart"), "{{run}} answered"),
                        Query(select("visionr1_coldstart_kept", "coldstart"), "{{run}} kept"),
                        Query(select("visionr1_coldstart_dropped", "coldstart"), "{{run}} dropped: {{rule}}"),
                    ),
                ),
            ),
        ),
    ),
)

THROUGHPUT: Final = Dashboard(
    "visionr1-throughput",
    "Vision-R1 / Throughput",
    "How fast a run is, where its time goes, and how far that is from what the hardware allows.",
    (
        Row(
            "Tokens",
            (
                Panel(
                    "Sampled by each worker",
                    "short",
                    "Tokens a second over the whole step. Good: all pods alike. One below the others holds all of them up.",
                    (Query(f"rate({by_pod('visionr1_rollout_generated_tokens_total', 'worker')}[$window])", BY_POD),),
                ),
                Panel(
                    "Trained by each process",
                    "short",
                    "Tokens with a loss a second. Good: all pods alike.",
                    (Query(f"rate({by_pod('visionr1_trained_tokens_total', 'worker|sft')}[$window])", BY_POD),),
                ),
                Panel(
                    "Sampled by all",
                    "short",
                    "Tokens a second of the run. It grows with the lengths; compare only within a stage.",
                    (
                        Query(
                            f"sum by (run, stage) (rate({select('visionr1_rollout_generated_tokens_total', 'worker')}[$window]))",
                            _HERE,
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "Time of a step",
            (
                Panel(
                    "Parts of a step",
                    "s",
                    "Stacked seconds. Usually rollout is most of it; reward or weight_sync above a tenth is worth a look.",
                    (Query(_trainers("visionr1_step_seconds"), f"{_HERE} {{{{phase}}}}"),),
                    "stacked",
                    12,
                ),
                Panel(
                    "Least time the hardware allows",
                    "s",
                    "Roofline floor of the same parts, mean of the workers. The gap to the panel beside is what can be won.",
                    (
                        Query(
                            f"avg by (run, stage, phase) ({by_pod('visionr1_floor_seconds', 'worker|sft')})",
                            f"{_HERE} {{{{phase}}}}",
                        ),
                    ),
                    "stacked",
                    12,
                ),
                Panel(
                    "Distance from the floor",
                    "percentunit",
                    "Floor over real time, 100 % is perfect. Decoding well batched reaches 50 %; below 5 % something waits.",
                    (Query(by_pod("visionr1_roofline_ratio", "worker|sft"), f"{{{{phase}}}} {BY_POD}"),),
                    width=12,
                ),
                Panel(
                    "MFU",
                    "percentunit",
                    "Model FLOPs over the peak. Update: 30 to 50 % is good on GPUs. Rollout: a few per cent is normal.",
                    (Query(by_pod("visionr1_mfu_ratio", "worker|sft"), f"{{{{phase}}}} {BY_POD}"),),
                    width=12,
                ),
            ),
        ),
        Row(
            "vLLM in the workers",
            (
                Panel(
                    "Sequences that decode",
                    "short",
                    "Good: near rollout.max_sequences, then a short tail. A long tail waits for a few long completions.",
                    (Query(by_pod("visionr1_vllm_running_requests", "worker"), BY_POD),),
                ),
                Panel(
                    "Sequences that wait",
                    "short",
                    "0 but at the start of a rollout. Bad: always many, which is too small a KV cache.",
                    (Query(by_pod("visionr1_vllm_waiting_requests", "worker"), BY_POD),),
                ),
                Panel(
                    "KV cache in use",
                    "percentunit",
                    "Good: high in the rollout, below 100 %. At 100 % sequences are preempted.",
                    (Query(by_pod("visionr1_vllm_kv_cache_usage_ratio", "worker"), BY_POD),),
                ),
                Panel(
                    "Preemptions",
                    "short",
                    "Sequences within the window that start over. Good: 0. Bad: any steady number; give vLLM more memory.",
                    (Query(f"increase({by_pod('visionr1_vllm_preemptions_total', 'worker')}[$window])", BY_POD),),
                ),
                Panel(
                    "Engine asleep",
                    "short",
                    "1 for the present state. On GPUs it must sleep while the trainer works, and wake for each rollout.",
                    (Query(by_pod("visionr1_vllm_sleep_state", "worker"), f"{{{{state}}}} {BY_POD}"),),
                    "states",
                ),
                Panel(
                    "Peak that the ratios mean",
                    "sci",
                    "FLOP/s and byte/s: published for a known GPU, measured on a CPU. Absent for other devices.",
                    (
                        Query(f"max by (device) ({by_pod('visionr1_peak_flops_per_second', 'worker|sft')})", "{{device}} FLOP/s"),
                        Query(
                            f"max by (device) ({by_pod('visionr1_peak_memory_bytes_per_second', 'worker|sft')})",
                            "{{device}} byte/s",
                        ),
                    ),
                    "stat",
                    8,
                ),
            ),
        ),
    ),
)
