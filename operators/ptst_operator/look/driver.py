"""Asks a stage's driver over HTTP. Its answers are not trusted, and cannot delay a look."""

from __future__ import annotations

import re
import socket
import threading
import time
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from ptst_operator.children.state import ChildState
from ptst_operator.look.scale import StageScale, scale_of
from ptst_operator.run import WantedRun
from ptst_operator.spec import METRICS_PORT
from ptst_operator.status import AttemptStatus, PhaseStatus
from ptst_operator.world import Progress
from visionr1.recipe.phases import COLDSTART_PHASE

_METRICS_SECONDS: Final = 2.0
_METRICS_BYTES: Final = 2_000_000
_NEEDED: Final = re.compile(
    "visionr1_(step|step_seconds|completion_tokens_mean|reward_mean|completion_truncated_ratio|kl_mean)[ {]"
)
_MOST_LINES: Final = 100


def look_at_driver(
    wanted: WantedRun, live: tuple[PhaseStatus, AttemptStatus] | None, child: ChildState | None, head: str | None
) -> tuple[Progress | None, str | None, bool | None]:
    """The numbers of a stage's driver that runs, its address if it has answered, and whether it has ended after its child.

    None if not known. Where nobody has answered yet, nobody has ended: the driver may not have come so far, or listen elsewhere.
    """
    if live is None or head is None or not live[1].child_kind.on_ray or live[0].name == COLDSTART_PHASE:
        return None, None, None
    phase, attempt = live
    address = (head, METRICS_PORT)
    if child is None:
        asked = attempt.stopping is not None and attempt.answered_at == head
        return None, None, driver_has_ended(address) if asked else None
    if child.phase != "Running":
        return None, None, None
    progress = ask_driver(address, scale_of(wanted, phase.name, attempt.workers))
    return progress, head if progress is not None else None, None


def ask_driver(address: tuple[str, int], stage: StageScale) -> Progress | None:
    """The driver's numbers. None if it does not answer in time, or not with metrics. Never raises."""
    try:
        return read_metrics(_ask(address), stage)
    except (OSError, HTTPException, ValueError):
        return None


def _ask(address: tuple[str, int]) -> str:
    """The text of /metrics, within two seconds. Redirects are not followed: a pod must not choose whom the operator asks."""
    end = time.monotonic() + _METRICS_SECONDS
    connection = HTTPConnection(*address, timeout=_METRICS_SECONDS)
    connection.connect()
    # A timeout counts for each read alone, and a server may send one byte per second. So a timer ends all reading.
    cut = threading.Timer(max(0.0, end - time.monotonic()), _shut, [connection.sock])
    cut.start()
    try:
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        text = response.read(_METRICS_BYTES).decode(errors="replace")
        if response.status != 200 or time.monotonic() >= end:
            raise HTTPException("no metrics, or not all of them")
        return text
    finally:
        cut.cancel()
        connection.close()


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):  # it may be closed already
        connection.shutdown(socket.SHUT_RDWR)


def driver_has_ended(address: tuple[str, int]) -> bool | None:
    """Whether nothing listens any more on the driver's metrics port. None if that is not known. Never raises."""
    try:
        with socket.create_connection(address, timeout=_METRICS_SECONDS):
            return False
    except ConnectionRefusedError:
        return True
    except OSError:
        return None


def read_metrics(text: str, stage: StageScale) -> Progress:
    """The newest step's values from the driver's /metrics. Steps of other stages are ignored.

    Raises:
        ValueError: the text is not metrics.
    """
    values: dict[str, float] = {}
    parts: list[float] = []
    # Parsing is slow, and a driver has a few hundred other lines. Who plays a driver may send 2 MB of them.
    lines = [line for line in text.splitlines() if len(line) < 1000 and _NEEDED.match(line)][:_MOST_LINES]
    if not lines and text.strip():
        raise ValueError("none of these lines is a metric of a driver")
    for family in text_string_to_metric_families("\n".join(lines) + "\n"):
        for sample in family.samples:
            values[sample.name.removeprefix("visionr1_")] = sample.value
            parts += [sample.value] if sample.name == "visionr1_step_seconds" else []
    step = values.get("step")
    own = step is not None and stage.first_step < step <= stage.last_step
    return stage.progress(int(step) if step is not None and own else None, values, parts)
