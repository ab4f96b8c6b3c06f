"""The operator's process: watchers wake it, workers look at runs, an HTTP server shows its health."""

from __future__ import annotations

import argparse
import logging
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from ptst_operator.api import Api, ApiError, NameTaken
from ptst_operator.api_watch import WATCHED, ApiWatcher
from ptst_operator.leader import LeaseLock, campaign
from ptst_operator.logs import FORMATS, LEVELS, set_up
from ptst_operator.metrics import OperatorMetrics, serve
from ptst_operator.reconcile import Reconciler
from ptst_operator.run_queue import LONGEST_REST, RunQueue, backoff
from ptst_operator.workers import Workers
from visionr1.errors import EXIT_BAD_INPUT, BadInput, printable
from visionr1.preflight.machine import keep_own_direct
from visionr1.storage import StorageError

STALLED_SECONDS: Final = 240.0
"""A watch answers at least once per minute. One that is silent for this long hangs."""
_LAST_SECONDS: Final = 25.0
"""Time to finish current work when the pod is asked to end. Kubernetes gives it 30 seconds."""
_log = logging.getLogger("ptst_operator")


class Operator:
    """The runs of one namespace, of several, or of all (`namespaces` is `[""]`)."""

    def __init__(self, api: Api, resync: float, namespaces: Sequence[str], isolates: bool = False, home: str = "") -> None:
        self._api, self._resync, self.namespaces = api, resync, list(namespaces)
        self._isolates, self._home = isolates, home
        self.metrics = OperatorMetrics()
        self._queue = RunQueue()
        self._reconcilers: dict[str, Reconciler] = {}
        self.watchers = [ApiWatcher(api.within(one), kind, self._queue) for one in namespaces for kind in WATCHED]
        self._failures: dict[str, int] = {}
        self._workers = Workers(self._queue, self._look)

    def run(self, workers: int, stopped: threading.Event) -> None:
        """Works until `stopped`. Then it lets current work end, and begins nothing more."""
        for watcher in self.watchers:
            watcher.start()
        self._workers.run(workers, stopped, _LAST_SECONDS)

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

    def _look(self, key: str) -> float:
        """Looks at a run, `namespace/name`. Returns the seconds until the next look."""
        namespace, _, name = key.partition("/")
        try:
            with self.metrics.seconds.time():
                due = self._reconciler(namespace).reconcile(name)
        except (ApiError, NameTaken, StorageError) as error:
            conflict = isinstance(error, ApiError) and error.status == 409
            self.metrics.errors.labels(_reason(error)).inc()
            if not conflict:  # a conflict is normal: somebody else changed the run in the meantime
                _log.warning("%s: %s", key, printable(str(error)))  # a stranger may have written a part of it
            return self._again(key)
        except Exception:
            self.metrics.errors.labels("bug").inc()
            _log.exception("%s: a bug in the operator; it tries again", key)
            return self._again(key)
        self._failures.pop(key, None)
        if due == math.inf:
            return due
        return self._resync if due is None else min(self._resync, max(0.0, due - time.time()))

    def _reconciler(self, namespace: str) -> Reconciler:
        changed, gone = partial(self.metrics.changed, namespace), partial(self.metrics.gone, namespace)
        # Two workers may make one at the same time; both then use the first.
        return self._reconcilers.setdefault(
            namespace, Reconciler(self._api.within(namespace), changed, gone, isolates=self._isolates, home=self._home)
        )

    def _again(self, key: str) -> float:
        self._failures[key] = self._failures.get(key, 0) + 1
        seconds = backoff(self._failures[key])
        self._queue.rest(key, time.monotonic() + min(seconds, LONGEST_REST))
        return seconds


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the installed command `ptst-operator`."""
    options = _options(arguments)
    set_up(options.log_level, options.log_format)
    try:
        namespaces = _namespaces(options.namespace)
        home = os.environ.get("POD_NAMESPACE", "")
        # A look must not wait for minutes: what cannot be reached now is tried again soon.
        os.environ.setdefault("AWS_MAX_ATTEMPTS", "2")
        keep_own_direct(os.environ)  # S3 of the cluster itself is not behind the proxy
        api = Api.connected(home or namespaces[0])
        operator = Operator(api, options.resync, namespaces, options.isolate_runs, home)
    except BadInput as error:
        print(error, file=sys.stderr)
        return EXIT_BAD_INPUT
    stopped, works = threading.Event(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    # A pod that waits for its lease is ready: it can take over at any time.
    server = serve(
        options.port,
        operator.metrics,
        lambda: operator.unhealthy() if works.is_set() else None,
        lambda: operator.unready() if works.is_set() else None,
    )
    code = _work(operator, options.workers, stopped, works, LeaseLock(api, options.lease, _pod_name()) if options.lease else None)
    server.shutdown()
    return code


def _work(operator: Operator, workers: int, stopped: threading.Event, works: threading.Event, lock: LeaseLock | None) -> int:
    """Works until `stopped`, if there is a lock only while it is held. Returns the exit code: 1 if the lock was lost."""
    lost = threading.Event()

    def lose() -> None:
        lost.set()
        stopped.set()

    if lock is None:
        works.set()
    else:
        _log.info("%s waits for the lease %s", lock.identity, lock.name)
        campaign(lock, works.set, lose)
    while not stopped.is_set() and not works.wait(0.5):
        pass
    if not stopped.is_set():
        _log.info("watching PTSTRuns in %s", ", ".join(operator.namespaces) if operator.namespaces != [""] else "every namespace")
        operator.run(workers, stopped)
    if lost.is_set():
        _log.error("the lease could not be renewed, another pod works now; this one starts again and waits")
    elif lock is not None:
        lock.release()
    return int(lost.is_set())


def _reason(error: ApiError | NameTaken | StorageError) -> str:
    match error:
        case ApiError():
            return f"api_{error.status}"
        case NameTaken():
            return "name_taken"
        case _:
            return "storage"


def _namespaces(text: str) -> list[str]:
    """`a,b` as a list; `*` as the empty name, which is every namespace. Raises BadInput for no namespace."""
    named = [name.strip() for name in text.split(",") if name.strip()]
    if not named:
        raise BadInput("no namespace: give --namespace, or set POD_NAMESPACE")
    return [""] if "*" in named else named


def _pod_name() -> str:
    return os.environ.get("POD_NAME") or socket.gethostname()


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ptst-operator", description="Runs the PTSTRuns of one namespace, several, or all.")
    parser.add_argument(
        "--namespace",
        default=os.environ.get("POD_NAMESPACE", ""),
        help="Namespace, several separated by commas, or * for every one. Default: POD_NAMESPACE.",
    )
    parser.add_argument("--port", type=int, default=8080, help="Port of /metrics, /healthz and /readyz.")
    parser.add_argument("--workers", type=int, default=4, help="How many runs are looked at in parallel.")
    parser.add_argument(
        "--resync", type=float, default=15.0, help="Seconds between two looks at a run, even if nothing has changed."
    )
    parser.add_argument("--lease", default="", help="Name of a Lease in POD_NAMESPACE: of several pods, its holder works.")
    parser.add_argument("--log-level", choices=LEVELS, default="info", help="Least level of the lines in the log.")
    parser.add_argument("--log-format", choices=FORMATS, default="text", help="json: one object per line.")
    parser.add_argument(
        "--isolate-runs",
        action="store_true",
        help="Make a NetworkPolicy for each run, which lets its pods reach each other. The chart's policies let nobody else in.",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
