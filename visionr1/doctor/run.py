"""All checks in their order, within a given time."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from visionr1.capacity.model import find_model_sizes
from visionr1.doctor import machine
from visionr1.doctor.finding import Finding, bad, guarded, not_seen
from visionr1.doctor.parts import PARTS
from visionr1.metrics.listening import free_port
from visionr1.recipe import Recipe, to_yaml

LAST_WORDS: Final = 300
"""Characters of a log's last line that a finding quotes."""


def examine(recipe: Recipe, seconds: float, log: Path | None, show: Callable[[Finding], object]) -> list[Finding]:
    """Makes every check and shows each finding as soon as it is there; a check that fails does not stop the others.

    Args:
        recipe: its engine, its model's size and its dtype are tried.
        seconds: time for the checks that train and sample; what is not done by then is reported so.
        log: file for what the libraries print; None throws it away.
    """
    found: list[Finding] = []
    with (
        tempfile.TemporaryDirectory(prefix="visionr1-doctor-") as folder,
        (Path(folder) / "output.txt" if log is None else log).open("w+") as output,
    ):
        for finding in _all(recipe, seconds, Path(folder), output):
            found.append(finding)
            show(finding)
    return found


def _all(recipe: Recipe, seconds: float, folder: Path, log: IO[str]) -> Iterator[Finding]:
    gpus = machine.ask_driver()
    yield from look_at_machine(recipe, gpus)
    count = len(gpus) if isinstance(gpus, list) and recipe.rollout.device != "cpu" else 0
    (folder / "asked.yaml").write_text(to_yaml(recipe))
    deadline = time.monotonic() + seconds
    for part in ("one", "resume"):
        yield from watch(part_commands(part, folder, 1), 1, PARTS[part], deadline, log)
    if count < 2:
        why = f"{count or 'no'} GPU here, and this needs two"
        yield not_seen("link", why)
        yield not_seen("pair", why)
        return
    yield from watch(link_commands(count, "cuda"), count, ("link",), deadline, log)
    yield from watch(part_commands("pair", folder, 2), 2, PARTS["pair"], deadline, log)


def look_at_machine(recipe: Recipe, gpus: list[machine.Gpu] | str) -> Iterator[Finding]:
    """The checks that need no process of their own."""
    wanted = recipe.rollout.device == "cuda"
    looks: dict[str, Callable[[], Finding]] = {
        "driver": lambda: machine.driver(gpus, wanted),
        "memory": lambda: machine.gpu_memory(gpus),
        "torch": lambda: machine.torch_sees(gpus),
        "nccl": machine.nccl,
        "vllm": lambda: machine.vllm(recipe.rollout.engine),
        "shm": machine.shared_memory,
        "disk": lambda: machine.disk(find_model_sizes(recipe.model).parameters),
        "home": machine.home,
    }
    for check, look in looks.items():
        yield guarded(check, look)


def part_commands(part: str, folder: Path, world: int) -> list[list[str]]:
    """One command per process of a part; all of them share a port."""
    port = free_port()
    where = ["--recipe", str(folder / "asked.yaml"), "--folder", str(folder), "--port", str(port), "--world", str(world)]
    return [[sys.executable, "-m", "visionr1.doctor.trial", "--part", part, *where, "--rank", str(rank)] for rank in range(world)]


def link_commands(world: int, device: str) -> list[list[str]]:
    """One command per process of the check of the bandwidth."""
    where = ["--port", str(free_port()), "--world", str(world), "--device", device]
    return [[sys.executable, "-m", "visionr1.doctor.bandwidth", *where, "--rank", str(rank)] for rank in range(world)]


def watch(
    commands: Sequence[Sequence[str]], gpus: int, checks: Sequence[str], deadline: float, log: IO[str]
) -> Iterator[Finding]:
    """Runs the processes of a part; yields the first one's findings, and what became of those that it did not report.

    Args:
        gpus: GPUs of this machine; with more than one, each process sees its own alone, as a worker under Ray does.
        deadline: by `time.monotonic`; then all processes are killed.
    """
    if time.monotonic() >= deadline:
        yield from (not_seen(check, "no time was left; give more with --seconds") for check in checks)
        return
    reading, writing = os.pipe()
    nothing = os.open(os.devnull, os.O_WRONLY)
    processes = []
    try:
        for rank, command in enumerate(commands):
            report = nothing if rank else writing
            own = {"CUDA_VISIBLE_DEVICES": str(rank)} if gpus > 1 else {}
            processes.append(_start([*command, "--report", str(report)], report, own, log))
        os.close(writing)
        left = list(checks)
        for finding in _read(reading, deadline):
            left.remove(finding.check)
            yield finding
            if not left:
                return  # the end of a process takes its time, and nobody needs it
        yield from _ended(left, processes[0], time.monotonic() >= deadline, log)
    finally:
        os.close(reading)
        os.close(nothing)
        for process in processes:
            _kill(process)


def _start(command: Sequence[str], report: int, own: dict[str, str], log: IO[str]) -> subprocess.Popen[bytes]:
    environment = os.environ | {"HF_HUB_OFFLINE": "1"} | own
    return subprocess.Popen(
        command, pass_fds=(report,), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
    )


def _read(pipe: int, deadline: float) -> Iterator[Finding]:
    """Findings as they come, until the writer ends or the deadline has passed."""
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            data = os.read(pipe, 1 << 16)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            yield from (Finding(**json.loads(line)) for line in lines)


def _ended(left: Sequence[str], process: subprocess.Popen[bytes], late: bool, log: IO[str]) -> Iterator[Finding]:
    """Findings for the checks that a process did not report."""
    if not left:
        return
    if late:
        yield bad(left[0], "not done when the time was over", "give more with --seconds; should it still hang, see --log FILE")
    else:
        code = process.wait()
        how = signal.Signals(-code).name if code < 0 else f"code {code}"
        yield bad(
            left[0], f"the process ended with {how}: {_last_line(log)}", "visionr1 doctor --log FILE keeps all of its output"
        )
    yield from (not_seen(check, f"{left[0]} did not end") for check in left[1:])


def _last_line(log: IO[str]) -> str:
    log.flush()
    log.seek(0)
    lines = [line.strip() for line in log.read().splitlines() if line.strip()]
    return lines[-1][:LAST_WORDS] if lines else "it printed nothing"


def _kill(process: subprocess.Popen[bytes]) -> None:
    """The process and all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
