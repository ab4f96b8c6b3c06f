"""A real Prometheus, and what it knows."""

import json
import math
import re
import secrets
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visionr1.metrics import TABLE

RULES = Path(__file__).parents[1] / "charts" / "visionr1-ptst" / "rules" / "visionr1-ptst.yaml"


def free_ports(count: int) -> int:
    """The first of `count` ports in a row that nobody listens on, nor is given by the kernel until they are used."""
    below = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = secrets.randbelow(below - 1024 - count) + 1024
        with ExitStack() as held, suppress(OSError):
            for number in range(count):
                held.enter_context(socket.socket()).bind(("127.0.0.1", port + number))
            return port


@dataclass(frozen=True)
class Prometheus:
    """A running server."""

    url: str

    def get(self, path: str, **parameters: object) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}", timeout=20) as answer:
            data: dict[str, Any] = json.load(answer)["data"]
        return data

    def query(self, expression: str, at: float) -> list[dict[str, Any]]:
        return list(self.get("query", query=expression, time=at)["result"])

    def query_range(self, expression: str, start: float, end: float, step: float = 1.0) -> list[dict[str, Any]]:
        return list(self.get("query_range", query=expression, start=start, end=end, step=step)["result"])

    def scrapes(self, selector: str, at: float) -> dict[float, float]:
        """All samples of one series before `at`, by the time of the scrape."""
        (series,) = self.query(f"{selector}[1h]", at)
        return {when: float(value) for when, value in series["values"]}

    def selectors(self, selector: str, at: float) -> Iterator[str]:
        """One selector for each series of `selector`."""
        name = selector.partition("{")[0]
        for series in self.query(f"{selector}[1h]", at):
            labels = {key: value for key, value in series["metric"].items() if key != "__name__"}
            yield f"{name}{{{','.join(f'{key}={json.dumps(value)}' for key, value in labels.items())}}}"

    def total(self, selector: str, at: float) -> float:
        """The sum of the newest samples of all series."""
        return sum(list(self.scrapes(one, at).values())[-1] for one in self.selectors(selector, at))

    def has_data(self, expression: str, start: float, end: float) -> bool:
        """Whether an expression of a panel gives a number, as Grafana sends it with All chosen everywhere."""
        found = self.query_range(filled(expression), start, end)
        return any(not math.isnan(float(value)) for series in found for _, value in series["values"])

    def steps_told(self, where: str, records: dict[int, dict[str, Any]], at: float) -> set[int]:
        """Compares every gauge of the process `where` with the step log, scrape by scrape; gives the steps that were seen.

        Raises:
            AssertionError: one is another.
        """
        step_at = {when: int(step) for when, step in self.scrapes(f"visionr1_step{{{where}}}", at).items()}
        seen = set()
        for item in TABLE:
            if item.kind != "gauge" or item.key is None or not item.logged or item.key == "host_memory_bytes":
                continue
            for selector in self.selectors(f"{item.name}{{{where}}}", at):
                label = re.findall(rf'{item.label}="([^"]*)"', selector)[0] if item.label else None
                for when, value in self.scrapes(selector, at).items():
                    if when not in step_at:  # served at the start, before the first step
                        continue
                    record = records[step_at[when]]
                    logged = record.get(item.key) if label is None else record.get(item.key, {}).get(label)
                    if logged is not None:
                        assert value == logged, (item.name, label, step_at[when])
                        seen.add(step_at[when])
        return seen


def filled(expression: str) -> str:
    """Without Grafana's variables."""
    values = {"namespace": ".*", "run": ".*", "pod": ".*", "window": "20s"}
    return re.sub(r"\$(\w+)", lambda match: values[match[1]], expression)


@contextmanager
def prometheus(folder: Path, jobs: list[dict[str, Any]]) -> Iterator[Prometheus]:
    """Scrapes the targets of each job twice a second."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_ports(1)
    config = {
        "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": jobs,
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "prometheus.txt").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            url = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + 60
            while not _ready(url):
                assert server.poll() is None and time.monotonic() < deadline, (folder / "prometheus.txt").read_text()[-2000:]
                time.sleep(0.1)
            yield Prometheus(url)
        finally:
            server.terminate()


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=5):
            return True
    except OSError:
        return False
