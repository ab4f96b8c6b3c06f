"""What the cold start itself costs, without its teachers: rows per second, memory, and the time to resume.

The teachers are a stub in the process that answers at once, with a chain of thought of about 300 words. The first attempt asks
for everything and is stopped before it writes; the second finds every reply and writes the data. Each is a process of its own.

    python benchmarks/coldstart_driver.py --rows 200000 --json figures.json
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

from PIL import Image
from rich.console import Console
from rich.table import Table

from visionr1.data.coldstart import run as room
from visionr1.data.coldstart.reply import Reply
from visionr1.data.coldstart.teacher import TeacherClient
from visionr1.errors import Stopped
from visionr1.recipe.reward import Reward
from visionr1.recipe.schema import Recipe
from visionr1.reward import Grader
from visionr1.storage import open_store

PICTURES = 500
WORDS = [
    "the",
    "side",
    "of",
    "this",
    "triangle",
    "is",
    "half",
    "of",
    "its",
    "base",
    "so",
    "we",
    "get",
    "sum",
    "that",
    "and",
    "by",
]
HALVES = [" ".join(random.Random(seed).choices(WORDS, k=150)) for seed in range(1000)]
"""Two of them are a chain, so that the stub itself costs nearly nothing and no two chains are the same."""
SUM = re.compile(r"What is (\d+) \+ (\d+)\?")


async def stub(client: TeacherClient, prompt: str, images: Sequence[str]) -> Reply:
    """Answers each step well; the same prompt gets the same reply."""
    left, right = map(int, SUM.findall(prompt)[-1])
    client.prompt_tokens += len(prompt) // 4
    client.reply_tokens += 400
    if images:
        return Reply(f"The picture shows the numbers {left} and {right}.", "", "stop", len(prompt) // 4, 400)
    chain = f"{HALVES[left % 1000]} {HALVES[left // 1000]}"
    return Reply(
        f"Final Answer: {left + right}", f"{chain}. Wait, {left}+{right} is {left + right}.", "stop", len(prompt) // 4, 400
    )


def problems(folder: Path, rows: int) -> None:
    """Questions that are all different, about PICTURES pictures."""
    folder.mkdir()
    for number in range(PICTURES):
        shade = hashlib.sha256(str(number).encode()).digest()
        picture = Image.new("RGB", (112, 112), tuple(shade[:3]))
        picture.paste(tuple(shade[3:6]), (20, 20, 20 + shade[6] % 60, 90))
        picture.save(folder / f"{number}.png")
    with (folder / "problems.jsonl").open("w") as lines:
        for row in range(rows):
            question = f"<image>What is {row} + {row % 97}?"
            lines.write(
                json.dumps({"images": [f"{row % PICTURES}.png"], "problem": question, "answer": str(row + row % 97)}) + "\n"
            )


def recipe(folder: Path) -> Recipe:
    teacher = {"base_url": "http://localhost:9/v1", "model": "stub"}
    coldstart = {
        "problems": {"path": str(folder / "problems.jsonl")},
        "describer": teacher,
        "reasoner": teacher,
        "filters": {"near_duplicates": 1.0},
    }
    return Recipe.model_validate({"coldstart": coldstart, "sft": {}, "model": {"min_pixels": 784, "max_pixels": 50176}})


def attempt(folder: Path, write: bool) -> dict[str, float]:
    """One attempt in this process."""
    began, figures = time.monotonic(), dict[str, float]()

    def publish(values: dict[str, object]) -> None:
        if values.get("coldstart_answered") == values_of_all and "asked_s" not in figures:
            figures["asked_s"] = time.monotonic() - began
            figures["asked_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    values_of_all = sum(1 for _ in (folder / "problems.jsonl").open())
    with patch.object(TeacherClient, "ask", stub), closing(Grader(Reward())) as grader:
        try:
            room.run_coldstart(
                recipe(folder),
                open_store(str(folder / "run")),
                grader.same,
                lambda: "asked_s" in figures and not write,
                publish=publish,
            )
        except Stopped:
            assert not write
    figures["all_s"] = time.monotonic() - began
    figures["cpu_s"] = time.process_time()
    figures["peak_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return figures


def in_a_process(folder: Path, write: bool) -> dict[str, float]:
    command = [sys.executable, __file__, "--attempt", str(folder), *(["--write"] if write else [])]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": str(folder)})
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--attempt", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.attempt:
        print(json.dumps(attempt(args.attempt, args.write)))
        return
    with tempfile.TemporaryDirectory(prefix="coldstart-driver-") as top:
        folder = Path(top) / "problems"
        problems(folder, args.rows)
        first, second = in_a_process(folder, write=False), in_a_process(folder, write=True)
        size = sum(file.stat().st_size for file in (folder / "run").rglob("*") if file.is_file())
    figures = {
        "rows": args.rows,
        "asking_rows_per_s": args.rows / first["asked_s"],
        "asking_cpu_ms_per_row": 1000 * first["cpu_s"] / args.rows,
        "asking_peak_mib": first["peak_rss_mib"],
        "resume_s": second["asked_s"],
        "resume_peak_mib": second["asked_rss_mib"],
        "writing_s": second["all_s"] - second["asked_s"],
        "peak_mib": second["peak_rss_mib"],
        "run_directory_mib": size / 2**20,
    }
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.2f}")
    Console().print(table)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
