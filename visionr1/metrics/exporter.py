"""Serves the instruments of one process on /metrics, and its heartbeat on /healthz."""

from __future__ import annotations

import errno
import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder

from visionr1.errors import BadInput
from visionr1.metrics.listening import HttpServer
from visionr1.metrics.table import LABELS, TABLE, Instrument
from visionr1.recipe.schema import Metrics

SILENCE_LIMIT_SECONDS: Final = 3600.0
"""A process without a beat for so long is taken for hung; a step of long rollouts may take many minutes."""
_LAST_PORT: Final = 65_535

_BY_KEY: Final = {item.key: item for item in TABLE if item.key}


def buckets(limit: int) -> list[float]:
    """Bounds of the completion lengths in tokens: powers of two from 16 below the stage's `limit`, then the limit itself."""
    return [float(2**power) for power in range(4, limit.bit_length()) if 2**power < limit] + [float(limit)]


class Exporter:
    """The instruments of one process; serves them if the recipe says so, else only counts.

    Where its port is taken it takes any free one, and prints which: nobody wants a training to end for its metrics.

    Args:
        settings: The recipe's `metrics`.
        role: What this process does, such as `driver`, `worker` or `sft`.
        run: The recipe's name.
        max_completion_tokens: The stage's length limit, the last bound of the histogram of lengths.
        port_offset: Added to `settings.port` unless that is 0; workers pass 1 + rank.
        silence_limit: Seconds without a beat after which /healthz answers 503.

    Raises:
        BadInput: The address cannot be listened on.
    """

    def __init__(
        self,
        settings: Metrics,
        role: str,
        run: str,
        max_completion_tokens: int = 16_384,
        port_offset: int = 0,
        silence_limit: float = SILENCE_LIMIT_SECONDS,
    ) -> None:
        self.registry = CollectorRegistry()
        self._labels = {"run": run, "stage": "", "role": role}
        self._instruments = {item.name: _make(item, self.registry, buckets(max_completion_tokens)) for item in TABLE}
        self._checkpoint_time = time.time()
        self._beat = time.monotonic()
        self._silence_limit = silence_limit
        self._live: Callable[[], Mapping[str, Any]] | None = None
        self._live_totals: dict[str, float] = {}
        self._parts: dict[str, set[str]] = {}
        self._lock = threading.Lock()
        self._server: HttpServer | None = None
        if settings.enabled:
            port = settings.port + port_offset if settings.port else 0
            self._server = _listen(settings.host, port, self._answer)
            if port not in (0, self.port):
                print(
                    f"metrics: port {port} on {settings.host} is taken, so {role} serves its metrics on port {self.port}",
                    flush=True,
                )
            threading.Thread(target=self._server.serve_forever, args=(0.1,), name="metrics", daemon=True).start()

    @property
    def port(self) -> int | None:
        """The port that is listened on; None when the recipe turns metrics off."""
        return None if self._server is None else int(self._server.server_address[1])

    def update(self, record: Mapping[str, Any]) -> None:
        """Takes over a step record (see `visionr1.metrics.table`) and beats; None values and unknown keys are passed over.

        A worker passes its own measurements without `step`: then no step is counted, and there is no age of a checkpoint.
        """
        with self._lock:  # a scrape sees a step whole, or not yet
            self._update(record)
        self.beat()

    def _update(self, record: Mapping[str, Any]) -> None:
        stage = record.get("stage")
        self._labels["stage"] = str(record.get("phase", "") if stage is None else stage)
        for item in TABLE:
            if item.key is not None and (value := record.get(item.key)) is not None:
                for label, number in value.items() if item.label else [("", value)]:
                    self._put(item, label, number)
        if "step_seconds" in record:
            # A part that this step did not have, such as a checkpoint, took no time.
            parts = self._parts.setdefault(self._labels["stage"], set())
            for part in parts - record["step_seconds"].keys():
                self._put(_BY_KEY["step_seconds"], part, 0.0)
            parts.update(record["step_seconds"])
        if "step" in record:
            self._instruments["visionr1_steps_total"].labels(**self._labels).inc()
            age = self._instruments["visionr1_checkpoint_age_seconds"].labels(**self._labels)
            age.set_function(lambda: max(0.0, time.time() - self._checkpoint_time))

    def read_at_scrape(self, live: Callable[[], Mapping[str, Any]]) -> None:
        """Calls `live` at every scrape, in the scrape's thread; a counter's value is its total, not what it grew by."""
        self._live = live

    def committed(self, step: int, seconds: float) -> None:
        """Tells of a checkpoint that has just been committed, at the stage of the last `update`; in any thread.

        Args:
            step: Its global step.
            seconds: How long its upload and commit took after the step.
        """
        self._checkpoint_time = time.time() - seconds
        self._instruments["visionr1_checkpoint_step"].labels(**self._labels).set(step)
        self._instruments["visionr1_checkpoint_upload_seconds"].labels(**self._labels).set(seconds)

    def observe(self, name: str, values: Iterable[float]) -> None:
        """Adds `values` to the histogram `visionr1_<name>`, at the stage of the last `update`."""
        histogram = self._instruments[f"visionr1_{name}"].labels(**self._labels)
        for value in values:
            histogram.observe(value)

    def beat(self) -> None:
        """Says that this process is alive; call it at least as often as `silence_limit`."""
        self._beat = time.monotonic()

    def close(self) -> None:
        """Frees the port."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _put(self, item: Instrument, label: str, number: float | None) -> None:
        if number is None:
            return
        own = {item.label: label} if item.label else {}
        child = self._instruments[item.name].labels(**self._labels, **own)
        if item.kind == "counter":
            child.inc(number)
        else:
            child.set(number)

    def _read_live(self) -> None:
        for key, value in self._live().items() if self._live else ():
            item = _BY_KEY[key]
            if item.kind == "counter":
                value, self._live_totals[key] = value - self._live_totals.get(key, 0.0), value
            for label, number in value.items() if item.label else [("", value)]:
                self._put(item, label, number)

    def _answer(self, path: str, accept: str) -> tuple[int, str, bytes]:
        """Status, content type and body for a GET."""
        if path == "/metrics":
            encode, content_type = choose_encoder(accept)
            with self._lock:
                self._read_live()
                return 200, content_type, encode(self.registry)
        if path == "/healthz":
            age = time.monotonic() - self._beat
            body = json.dumps({"age_seconds": round(age, 3)}).encode()
            return 200 if age <= self._silence_limit else 503, "application/json", body
        return 404, "text/plain; charset=utf-8", b"try /metrics or /healthz\n"


def _make(item: Instrument, registry: CollectorRegistry, bounds: list[float]) -> Any:
    labels = [*LABELS, item.label] if item.label else LABELS
    if item.kind == "histogram":
        return Histogram(item.name, item.help, labels, registry=registry, buckets=bounds)
    return (Counter if item.kind == "counter" else Gauge)(item.name, item.help, labels, registry=registry)


def _listen(host: str, port: int, answer: Callable[[str, str], tuple[int, str, bytes]]) -> HttpServer:
    class Handler(BaseHTTPRequestHandler):
        timeout = 30

        def do_GET(self) -> None:
            status, content_type, body = answer(self.path.partition("?")[0], self.headers.get("Accept", ""))
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            with suppress(BrokenPipeError, ConnectionResetError):  # a scraper that no longer waits is no error of ours
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """A scrape every few seconds is no news."""

    try:
        return HttpServer(host, port if port <= _LAST_PORT else 0, Handler)
    except OSError as error:
        if port and error.errno == errno.EADDRINUSE:
            return _listen(host, 0, answer)
        problem = f"cannot listen on {host}, port {port} ({error.strerror or error}); correct metrics.host and metrics.port"
        raise BadInput(f"metrics: {problem}") from error
