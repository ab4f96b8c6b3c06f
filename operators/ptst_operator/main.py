"""The operator's process: watchers wake it, workers look at runs, an HTTP server shows its health."""

from __future__ import annotations

import argparse
import logging
import math
import os
import signal
import sys
import threading
import time
from typing import Final

from ptst_operator.api import Api, ApiError
from ptst_operator.api_watch import WATCHED, ApiWatcher
from ptst_operator.metrics import OperatorMetrics, serve
from ptst_operator.reconcile import Reconciler
from ptst_operator.run_queue import RunQueue, backoff
from ptst_operator.workers import Workers
from visionr1.errors import EXIT_BAD_INPUT, BadInput
from visionr1.storage import StorageError

STALLED_SECONDS: Final = 240.0
"""A watch answers at least once per minute. One that is silent for this long hangs."""
_LAST_SECONDS: Final = 25.0
"""Time to finish current work when the pod is asked to end. Kubernetes gives it 30 seconds."""
_log = logging.getLogger("ptst_operator")


class Operator:
    """One namespace's runs."""

    def __init__(self, api: Api, resync: float, isolates: bool = False) -> None:
        self._resync = resync
        self.metrics = OperatorMetrics()
        self._queue = RunQueue()
        self._reconciler = Reconciler(api, self.metrics.changed, self.metrics.gone, isolates=isolates)
        self.watchers = [ApiWatcher(api, kind, self._queue) for kind in WATCHED]
        self._failures: dict[str, int] = {}
        self._stop = threading.Event()
        self._workers = Workers(self._queue, self._look)

    def run(self, workers: int) -> None:
        """Works until `stop`."""
        for watcher in self.watchers:
            watcher.start()
        self._workers.run(workers, self._stop, _LAST_SECONDS)

    def stop(self) -> None:
        """Lets current work end, and begins nothing more."""
        self._stop.set()

    def unhealthy(self) -> str | None:
        """What is wrong, or None. The kubelet then restarts the operator."""
        now = time.monotonic()
        for watcher in self.watchers:
            if watcher.ready.is_set() and now - watcher.beat > STALLED_SECONDS or not watcher.is_alive():
                return f"{watcher.name} has stalled"
        return self._workers.unhealthy()

    def unready(self) -> str | None:
        """What is not ready, or None."""
        late = [watcher.name for watcher in self.watchers if not watcher.ready.is_set()]
        return f"{late[0]} has not listed yet" if late else self.unhealthy()

    def _look(self, name: str) -> float:
        """Looks at a run. Returns the seconds until the next look."""
        try:
            with self.metrics.seconds.time():
                due = self._reconciler.reconcile(name)
        except (ApiError, StorageError) as error:
            conflict = isinstance(error, ApiError) and error.status == 409
            reason = f"api_{error.status}" if isinstance(error, ApiError) else "storage"
            self.metrics.errors.labels(reason).inc()
            if not conflict:  # a conflict is normal: somebody else changed the run in the meantime
                _log.warning("%s: %s", name, error)
            return self._again(name)
        except Exception:
            self.metrics.errors.labels("bug").inc()
            _log.exception("%s: a bug in the operator; it tries again", name)
            return self._again(name)
        self._failures.pop(name, None)
        if due == math.inf:
            return due
        return self._resync if due is None else min(self._resync, max(0.0, due - time.time()))

    def _again(self, name: str) -> float:
        self._failures[name] = self._failures.get(name, 0) + 1
        return backoff(self._failures[name])


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the installed command `ptst-operator`."""
    parser = argparse.ArgumentParser(prog="ptst-operator", description="Runs the PTSTRuns of one namespace.")
    parser.add_argument("--namespace", default=os.environ.get("POD_NAMESPACE", ""), help="Namespace. Default: POD_NAMESPACE.")
    parser.add_argument("--port", type=int, default=8080, help="Port of /metrics, /healthz and /readyz.")
    parser.add_argument("--workers", type=int, default=4, help="How many runs are looked at in parallel.")
    parser.add_argument(
        "--resync", type=float, default=15.0, help="Seconds between two looks at a run, even if nothing has changed."
    )
    parser.add_argument(
        "--isolate-runs",
        action="store_true",
        help="Make a NetworkPolicy for each run, which lets its pods reach each other. The chart's policies let nobody else in.",
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        if not options.namespace:
            raise BadInput("no namespace: give --namespace, or set POD_NAMESPACE")
        # A look must not wait for minutes: what cannot be reached now is tried again soon.
        os.environ.setdefault("AWS_MAX_ATTEMPTS", "2")
        operator = Operator(Api.connected(options.namespace), options.resync, options.isolate_runs)
    except BadInput as error:
        print(error, file=sys.stderr)
        return EXIT_BAD_INPUT
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: operator.stop())
    server = serve(options.port, operator.metrics, operator.unhealthy, operator.unready)
    _log.info("watching PTSTRuns in %s", options.namespace)
    operator.run(options.workers)
    server.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
