"""The dashboards *GPUs and pods* and *Operator*: what only a cluster has."""

from __future__ import annotations

from typing import Final

from visionr1.watch.grafana import Dashboard, Panel, Query, Row
from visionr1.watch.training import BY_POD, by_pod

FROM_OTHERS: Final = {
    "DCGM_FI_DEV_GPU_UTIL": "dcgm-exporter",
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": "dcgm-exporter",
    "DCGM_FI_DEV_FB_USED": "dcgm-exporter",
    "DCGM_FI_DEV_FB_FREE": "dcgm-exporter",
    "DCGM_FI_DEV_POWER_USAGE": "dcgm-exporter",
    "DCGM_FI_DEV_XID_ERRORS": "dcgm-exporter",
    "kube_pod_container_status_restarts_total": "kube-state-metrics",
}
"""Metrics that others export, by exporter."""


def _gpu(name: str) -> str:
    # Its chart scrapes without honorLabels, so the GPU's pod is `exported_pod`.
    return f'{name}{{exported_namespace=~"$namespace",exported_pod=~"$pod"}}'


_BORDERS: Final = 'visionr1_ptst_stage_transitions_total{namespace=~"$namespace",run=~"$run"}'
_GPU: Final = "{{exported_pod}} GPU {{gpu}}"

GPUS: Final = Dashboard(
    "visionr1-gpus",
    "Vision-R1 / GPUs and pods",
    "What the GPUs do (from dcgm-exporter), and the memory and restarts of the pods.",
    (
        Row(
            "GPUs",
            (
                Panel(
                    "Busy",
                    "percent",
                    "Good: high on all. At 100 % on all but one, they wait for the one.",
                    (Query(_gpu("DCGM_FI_DEV_GPU_UTIL"), _GPU),),
                ),
                Panel(
                    "Tensor cores busy",
                    "percentunit",
                    "Follows the MFU: high in the update, low while decoding. 0 in the update: no bfloat16, or no kernels.",
                    (Query(_gpu("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE"), _GPU),),
                ),
                Panel(
                    "Memory",
                    "decmbytes",
                    "Used and free. A wave a step, as trainer and engine take turns. Free near 0: out of memory is near.",
                    (
                        Query(_gpu("DCGM_FI_DEV_FB_USED"), f"{_GPU} used"),
                        Query(_gpu("DCGM_FI_DEV_FB_FREE"), f"{_GPU} free"),
                    ),
                ),
                Panel(
                    "Power",
                    "watt",
                    "Near the limit in the update. Busy but at half the power, a GPU waits in a collective.",
                    (Query(_gpu("DCGM_FI_DEV_POWER_USAGE"), _GPU),),
                    width=12,
                ),
                Panel(
                    "XID errors",
                    "short",
                    "Number of the last one. Good: 0. 48, 63, 64, 74, 79, 94, 95: take the node out.",
                    (Query(_gpu("DCGM_FI_DEV_XID_ERRORS"), _GPU),),
                    "states",
                    12,
                ),
            ),
        ),
        Row(
            "Pods",
            (
                Panel(
                    "Host memory",
                    "bytes",
                    "Resident memory of each process. Good: flat after the first steps.",
                    (Query(by_pod("visionr1_host_memory_bytes", ".*"), BY_POD),),
                ),
                Panel(
                    "Growth of host memory an hour",
                    "bytes",
                    "Good: around 0. Steadily above 1 GiB an hour, the pod will be killed.",
                    (Query(f"deriv({by_pod('visionr1_host_memory_bytes', '.*')}[$window]) * 3600", BY_POD),),
                ),
                Panel(
                    "Restarts",
                    "short",
                    "Of containers (kube-state-metrics) and of a run's phases (operator). Good: none.",
                    (
                        Query(
                            'kube_pod_container_status_restarts_total{namespace=~"$namespace",pod=~"$pod"}',
                            "{{pod}} {{container}}",
                        ),
                        Query(
                            'visionr1_ptst_child_restarts_total{namespace=~"$namespace",run=~"$run"}',
                            "{{run}} {{stage}} tried again",
                        ),
                    ),
                ),
            ),
        ),
    ),
)

OPERATOR: Final = Dashboard(
    "visionr1-operator",
    "Vision-R1 / Operator",
    "Whether the operator works, and what it does with the runs.",
    (
        Row(
            "Runs",
            (
                Panel(
                    "Runs by phase",
                    "short",
                    "How many runs are in each phase. Bad: Held or Failed, or Pending for long.",
                    (Query('sum by (phase) (visionr1_ptst_run_phase{namespace=~"$namespace",run=~"$run"})', "{{phase}}"),),
                    "stacked",
                ),
                Panel(
                    "Stage borders",
                    "short",
                    "Changes from one phase of the recipe to the next, within the window. Each pair occurs once a run.",
                    (
                        Query(
                            # A pair's first change makes its series, which is no increase to Prometheus.
                            f"sum by (run, from, to) (({_BORDERS} unless {_BORDERS} offset $window) "
                            f"or increase({_BORDERS}[$window]))",
                            "{{run}} {{from}} to {{to}}",
                        ),
                    ),
                ),
                Panel(
                    "Phases tried again",
                    "short",
                    "Within the window. Good: 0. Bad: the same phase again and again.",
                    (
                        Query(
                            'increase(visionr1_ptst_child_restarts_total{namespace=~"$namespace",run=~"$run"}[$window])',
                            "{{run}} {{stage}}",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "The operator itself",
            (
                Panel(
                    "Time of a look",
                    "s",
                    "Median and 99th percentile. Good: below a second. Slow: the API server, or S3.",
                    tuple(
                        Query(
                            f"histogram_quantile({part}, sum by (le) "
                            '(rate(visionr1_ptst_reconcile_seconds_bucket{namespace=~"$namespace"}[$window])))',
                            f"p{part * 100:.0f}",
                        )
                        for part in (0.5, 0.99)
                    ),
                ),
                Panel(
                    "Looks a second",
                    "ops",
                    "Good: steady, at least one a run every quarter of a minute. 0: it hangs or is down.",
                    (Query('rate(visionr1_ptst_reconcile_seconds_count{namespace=~"$namespace"}[$window])', "{{pod}}"),),
                ),
                Panel(
                    "Errors by reason",
                    "short",
                    "Failed looks within the window. Now and then one is normal; a steady number is not.",
                    (
                        Query(
                            'sum by (reason) (increase(visionr1_ptst_reconcile_errors_total{namespace=~"$namespace"}[$window]))',
                            "{{reason}}",
                        ),
                    ),
                ),
            ),
        ),
    ),
)
