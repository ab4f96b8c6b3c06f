"""What watching costs: series and bytes of each pod's /metrics, time of a scrape, and a step's own part.

    python benchmarks/scrape.py [--pods 64] [--json FILE]

64 simulated workers, each at its own port, and a driver with a step of the paper's size (512 prompts x 16). CPU time
(`cpu_ms`) is that of both ends of a scrape in this one process; it does not depend on what else the machine does.
"""

import argparse
import json
import random
import statistics
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from visionr1.metrics import TABLE, Exporter
from visionr1.metrics.table import Instrument
from visionr1.recipe.schema import Metrics

COMPLETIONS = 512 * 16
LIMIT = 16_384
ROUNDS = 20
LABELS = {
    "phase": ("rollout", "reward", "update", "weight_sync", "checkpoint"),
    "component": ("format", "accuracy"),
    "device": ("NVIDIA H100 80GB HBM3",),
    "state": ("awake", "discard_all"),
}
WORKERS_OWN = ("generated_tokens", "trained_tokens", "host_memory_bytes", "mfu_ratio", "roofline_ratio", "floor_seconds", "peak_")


def values(keep: Callable[[str, Instrument], bool]) -> dict[str, Any]:
    """A random number for each key that `keep` takes."""
    record: dict[str, Any] = {}
    for item in TABLE:
        if item.key is not None and keep(item.key, item) and not item.key.startswith("coldstart"):
            labels = LABELS[item.label] if item.label else None
            record[item.key] = {label: random.random() for label in labels} if labels else random.randint(1, 10**9)
    return record


def scrape(port: int | None) -> tuple[float, float, bytes]:
    """Wall and CPU milliseconds, and the body."""
    wall, cpu = time.perf_counter(), time.process_time()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        body = answer.read()
    return 1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - cpu), body


def measure(exporter: Exporter) -> dict[str, float]:
    taken = [scrape(exporter.port) for _ in range(ROUNDS)]
    body = taken[-1][2]
    return {
        "series": sum(1 for line in body.splitlines() if not line.startswith(b"#")),
        "bytes": len(body),
        "wall_ms": round(statistics.median(wall for wall, _, _ in taken), 2),
        "cpu_ms": round(statistics.median(cpu for _, cpu, _ in taken), 2),
    }


def cpu_ms(act: Callable[[], object]) -> float:
    begun = time.process_time()
    act()
    return 1000 * (time.process_time() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pods", type=int, default=64)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    step = {"phase": "stage-3", "stage": 3, "step": 250, "time": time.time()}
    lengths = [random.randint(1, LIMIT) for _ in range(COMPLETIONS)]
    with ExitStack() as stack:

        def exporter(role: str) -> Exporter:
            return stack.enter_context(closing(Exporter(Metrics(port=0), role, "vision-r1", LIMIT)))

        driver = exporter("driver")
        reported = values(lambda key, item: item.logged or key.startswith(("stage_", "started", "completion"))) | step

        def end_of_step() -> None:
            driver.update(reported)
            driver.observe("completion_tokens", lengths)

        driver_step = min(cpu_ms(end_of_step) for _ in range(ROUNDS))
        own = values(lambda key, _: key.startswith(WORKERS_OWN)) | {"phase": "stage-3", "stage": 3}
        live = values(lambda key, _: key.startswith("vllm_"))
        workers = [exporter("worker") for _ in range(options.pods)]
        for worker in workers:
            worker.update(own)
            worker.read_at_scrape(lambda: live)
        worker_step = min(cpu_ms(lambda: workers[0].update(own)) for _ in range(ROUNDS))
        each = {"driver": measure(driver), "worker": measure(workers[0])}
        begun = time.process_time()
        sizes = [len(scrape(one.port)[2]) for one in (driver, *workers)]
        everyone = 1000 * (time.process_time() - begun)
    result = {
        "pods": options.pods,
        **each,
        "all": {
            "series": each["driver"]["series"] + options.pods * each["worker"]["series"],
            "bytes": sum(sizes),
            "cpu_ms": round(everyone, 1),
        },
        "step_cpu_ms": {"driver": round(driver_step, 2), "worker": round(worker_step, 3)},
    }
    table = Table(title=f"a driver and {options.pods} workers")
    for name in ("", "series", "bytes", "cpu ms a scrape", "cpu ms a step"):
        table.add_column(name, justify="right" if name else "left")
    for name in ("driver", "worker", "all"):
        row = result[name]
        table.add_row(
            name, f"{row['series']:,}", f"{row['bytes']:,}", str(row["cpu_ms"]), str(result["step_cpu_ms"].get(name, ""))
        )
    Console(stderr=True).print(table)
    print(json.dumps(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
