"""The three steps of the cold start on Ray Data, and as requests to Ray actors: what each costs without its teachers.

Both have one stub of a teacher that answers at once, in a Ray actor. On Ray Data each step is a stage of `map_batches` with an
actor; the other way, the driver sends each actor single requests, CONCURRENCY at a time, and keeps each reply as it comes. Ray
Data would lose no more than that only with batches of one row.

    python benchmarks/coldstart_ray_data.py --rows 20000
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import ray

STEPS = ("pseudo_cot", "description", "reasoning")
CONCURRENCY = 256
CHAIN = " ".join(["so we get the sum"] * 60)


class Stage:
    """A step on Ray Data: a batch of rows in, the same with a reply more out."""

    def __init__(self, step: str) -> None:
        self.step = step

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return batch | {self.step: [f"{row} {CHAIN}" for row in batch["id"]]}


class Teacher:
    """Answers single requests."""

    @ray.method
    async def ask(self, step: str, row: int) -> str:
        return f"{row} {CHAIN}"


def on_ray_data(rows: int, batch: int, folder: Path) -> float:
    began = time.monotonic()
    data = ray.data.range(rows)
    for step in STEPS:
        data = data.map_batches(
            Stage, fn_constructor_args=(step,), batch_size=batch, compute=ray.data.ActorPoolStrategy(size=1), num_cpus=0.5
        )
    data.write_json(str(folder))
    return time.monotonic() - began


def on_actors(rows: int, folder: Path) -> float:
    began = time.monotonic()
    teachers = [ray.remote(Teacher).options(num_cpus=0.5, max_concurrency=CONCURRENCY).remote() for _ in STEPS]

    async def ask_all() -> None:
        numbers = iter(range(rows))
        with (folder / "replies.jsonl").open("w") as lines:

            async def work() -> None:
                for row in numbers:
                    for step, teacher in zip(STEPS, teachers, strict=True):
                        reply = await teacher.ask.remote(step, row)
                        lines.write(json.dumps({"row": row, "step": step, "reply": reply}) + "\n")

            await asyncio.gather(*(work() for _ in range(CONCURRENCY)))

    asyncio.run(ask_all())
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    args = parser.parse_args()
    ray.init(num_cpus=4, include_dashboard=False, object_store_memory=512 * 2**20)
    for name, batch in (("Ray Data, batches of 256", 256), ("Ray Data, batches of 1", 1), ("requests to actors", 0)):
        with tempfile.TemporaryDirectory() as folder:
            rows = args.rows if batch != 1 else args.rows // 10
            seconds = on_ray_data(rows, batch, Path(folder)) if batch else on_actors(rows, Path(folder))
        print(f"{name}: {rows / seconds:,.0f} rows/s ({rows} rows in {seconds:.1f} s)", flush=True)


if __name__ == "__main__":
    main()
