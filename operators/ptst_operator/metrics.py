"""The operator's own metrics, and its health."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any, Final, Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder

from ptst_operator.status import RunPhase, Status
from visionr1.metrics.listening import ALL, HttpServer


@dataclass(frozen=True)
class OperatorInstrument:
    """One metric. `labels` are its own labels. Prometheus adds the labels of the scrape.

    `namespace` is the run's. With `honorLabels`, as the chart's PodMonitor has it, it takes the place of the operator's own.
    """

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    unit: str
    help: str
    labels: tuple[str, ...] = ()


RUN_PHASE: Final = OperatorInstrument(
    "visionr1_ptst_run_phase",
    "gauge",
    "1",
    "1 for the current phase of the PTSTRun, 0 for the others.",
    ("namespace", "run", "phase"),
)
STAGE_TRANSITIONS: Final = OperatorInstrument(
    "visionr1_ptst_stage_transitions_total",
    "counter",
    "transitions",
    "How often the run went from one phase of the recipe to another.",
    ("namespace", "run", "from", "to"),
)
CHILD_RESTARTS: Final = OperatorInstrument(
    "visionr1_ptst_child_restarts_total",
    "counter",
    "attempts",
    "Attempts at a phase after its first one.",
    ("namespace", "run", "stage"),
)
RECONCILE_SECONDS: Final = OperatorInstrument(
    "visionr1_ptst_reconcile_seconds", "histogram", "seconds", "How long one look at a run took."
)
RECONCILE_ERRORS: Final = OperatorInstrument(
    "visionr1_ptst_reconcile_errors_total",
    "counter",
    "looks",
    "Looks at runs that failed. The operator tries them again.",
    ("reason",),
)
OPERATOR_TABLE: Final = (RUN_PHASE, STAGE_TRANSITIONS, CHILD_RESTARTS, RECONCILE_SECONDS, RECONCILE_ERRORS)
"""All metrics of the operator. docs/metrics.md is made from this."""


class OperatorMetrics:
    """The operator's metrics. When a run is deleted, its series are removed."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._phase = Gauge(RUN_PHASE.name, RUN_PHASE.help, RUN_PHASE.labels, registry=self.registry)
        self._stage = Counter(STAGE_TRANSITIONS.name, STAGE_TRANSITIONS.help, STAGE_TRANSITIONS.labels, registry=self.registry)
        self._restarts = Counter(CHILD_RESTARTS.name, CHILD_RESTARTS.help, CHILD_RESTARTS.labels, registry=self.registry)
        self.seconds = Histogram(RECONCILE_SECONDS.name, RECONCILE_SECONDS.help, registry=self.registry)
        self.errors = Counter(RECONCILE_ERRORS.name, RECONCILE_ERRORS.help, RECONCILE_ERRORS.labels, registry=self.registry)
        for reason in ("storage", "bug"):
            self.errors.labels(reason)  # exists from the start, so that Prometheus sees the first error as a rise
        self._series: dict[tuple[str, str], set[tuple[str, ...]]] = {}

    def changed(self, namespace: str, run: str, before: Status, after: Status) -> None:
        """A status was found, or replaced another one."""
        series = self._series.setdefault((namespace, run), set())
        for phase in get_args(RunPhase):
            self._phase.labels(namespace, run, phase).set(float(phase == after.phase))
        if before.stage != after.stage and before.stage is not None:
            pair = (before.stage, after.stage or "done")
            self._stage.labels(namespace, run, *pair).inc()
            series.add(("stage", *pair))
        for phase in after.phases:
            # Exists from the first look on, so that Prometheus sees the first retry as a rise.
            self._restarts.labels(namespace, run, phase.name)
            series.add(("restart", phase.name))
            again = max(0, phase.attempts_begun - 1) - max(0, before.of(phase.name).attempts_begun - 1)
            if again > 0:
                self._restarts.labels(namespace, run, phase.name).inc(again)

    def gone(self, namespace: str, run: str) -> None:
        """A run was deleted."""
        if (namespace, run) not in self._series:
            return
        for phase in get_args(RunPhase):
            self._phase.remove(namespace, run, phase)
        for kind, *labels in self._series.pop((namespace, run)):
            (self._stage if kind == "stage" else self._restarts).remove(namespace, run, *labels)


_TEXT: Final = "text/plain; charset=utf-8"


def serve(port: int, metrics: OperatorMetrics, healthy: Any, ready: Any) -> HttpServer:
    """Serves /metrics, /healthz and /readyz on all addresses of the pod. `healthy` and `ready` return None or what is wrong."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 30

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                encode, content = choose_encoder(self.headers.get("Accept", ""))
                self._answer(200, content, encode(metrics.registry))
            elif path in ("/healthz", "/readyz"):
                wrong = healthy() if path == "/healthz" else ready()
                self._answer(503 if wrong else 200, _TEXT, f"{wrong or 'ok'}\n".encode())
            else:
                self._answer(404, _TEXT, b"try /metrics, /healthz or /readyz\n")

        def _answer(self, status: int, content: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Logs nothing: probes come every few seconds."""

    server = HttpServer(ALL, port, Handler)
    threading.Thread(target=server.serve_forever, args=(0.2,), name="http", daemon=True).start()
    return server
