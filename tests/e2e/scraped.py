"""A real Prometheus, and a tiny run that it scrapes: cold start, SFT on two ranks, a stage with two workers."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
RULES = ROOT / "charts" / "visionr1-ptst" / "rules" / "visionr1-ptst.yaml"
PODS = ("head", "worker-0", "worker-1")
TINY = {
    "name": "tiny",
    "coldstart.problems.limit": 300,  # some seconds, hence some scrapes
    "sft.max_steps": 8,
    "data.train.limit": 80,
    "data.held_out": "null",
    "algorithm.prompts_per_step": 4,
    "stages": "[{max_completion_tokens: 24, group_size: 4, steps: 16}]",
    "checkpoint.every": 4,
    # The shipped base never ends in the format, so its rewards would all be 0; this one pays for any readable number.
    "reward.function": "zero",
}


def free_ports(count: int) -> int:
    """The first of `count` ports in a row that nobody listens on."""
    while True:
        with ExitStack() as held:
            first = held.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                for number in range(1, count):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port + number))
            except (OSError, OverflowError):
                continue
            return port


@dataclass(frozen=True)
class Prometheus:
    """A running server."""

    url: str

    def get(self, path: str, **parameters: object) -> dict:
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}", timeout=20) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str, at: float) -> list[dict]:
        return self.get("query", query=expression, time=at)["result"]

    def query_range(self, expression: str, start: float, end: float, step: float = 1.0) -> list[dict]:
        return self.get("query_range", query=expression, start=start, end=end, step=step)["result"]


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, Mapping[str, str]]) -> Iterator[Prometheus]:
    """Scrapes each target twice a second; `targets` are labels by address."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_ports(1)
    static = [{"targets": [address], "labels": dict(labels)} for address, labels in targets.items()]
    config = {
        "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "visionr1", "static_configs": static}],
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


def scraped_run(server_folder: Path, run: Path, settings: Mapping[str, object]) -> Iterator[tuple[Prometheus, float, float]]:
    """Runs a recipe under the eyes of a Prometheus; gives it, and when the run began and ended (unix seconds)."""
    port = free_ports(len(PODS))
    targets = {f"127.0.0.1:{port + place}": {"namespace": "ml", "pod": pod} for place, pod in enumerate(PODS)}
    given = [part for name, value in {**settings, "metrics.port": port}.items() for part in ("--set", f"{name}={value}")]
    with prometheus(server_folder, targets) as server:
        begun = time.time()
        command = [sys.executable, "-m", "visionr1.cli", "run", "demo", "--run", str(run), *given]
        done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=1000)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        yield server, begun, time.time()
