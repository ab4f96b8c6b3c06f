"""A cold start end to end on this machine: a vLLM server inside the job describes, the demo's scripted teacher reasons.

The problems are the demo's, as many as are asked for: each further 6,000 are drawn with another seed.

    python benchmarks/coldstart_vllm.py --rows 10000 --json figures.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from visionr1.data.digits import SPLIT_SIZES, problems
from visionr1.rundir.coldstart import ColdStartReport, read_report
from visionr1.storage import open_store


def written_problems(folder: Path, rows: int) -> Path:
    """Pictures and problems.jsonl."""
    folder.mkdir()
    size = SPLIT_SIZES["train"]
    with (folder / "problems.jsonl").open("w") as lines:
        for number in range(rows):
            row = problems("train", seed=number // size)[number % size]
            (folder / f"{number}.png").write_bytes(row.images[0])
            lines.write(json.dumps({"images": [f"{number}.png"], "problem": row.problem, "answer": row.answer}) + "\n")
    return folder / "problems.jsonl"


def recipe(file: Path, prompts: Path) -> dict[str, Any]:
    """The demo's, but that its base model describes. It knows no other request than a question."""
    prompts.mkdir()
    (prompts / "description_alone.txt").write_text("{question}")
    return {
        "preset": "demo",
        "coldstart": {
            "problems": {"path": str(file), "limit": None},
            "describer": {"base_url": None, "model": "demo", "max_tokens": 64, "workers": {"cpu_kv_cache_gib": 0.5}},
            "pseudo_cot": False,
            "prompts_dir": str(prompts),
            "concurrency": 128,
        },
        "rollout": {"device": "cpu"},
    }


def cold_start(top: Path, rows: int) -> tuple[float, ColdStartReport]:
    """Seconds of the command, and its report. Raises SystemExit if it fails."""
    run = top / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text(json.dumps(recipe(written_problems(top / "problems", rows), top / "prompts")))
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "visionr1.cli", "coldstart", "--run", str(run)])
    if done.returncode:
        raise SystemExit(f"the cold start ended with {done.returncode}; its output says why")
    report = read_report(open_store(str(run)))
    assert report is not None
    return time.monotonic() - begun, report


def main() -> None:
    """Runs it, prints a table, then JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--json", type=Path, help="file for the figures")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="coldstart-", dir="/tmp") as top:  # short, for the paths of Ray's sockets
        seconds, report = cold_start(Path(top), asked.rows)
    figures = {
        "problems": report.problems,
        "kept": report.kept,
        "seconds": round(seconds, 1),
        "problems_per_second": round(report.problems / seconds, 1),
        "asked": report.asked,
        "answered_by_an_equal_one": report.reused,
        **{f"{name}_{key}": value for name, use in report.teachers.items() for key, value in use.model_dump().items()},
        **{f"rejected_{rule}": count for rule, count in report.rejected.items()},
    }
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name, f"{value:,}" if isinstance(value, int | float) else str(value))
    Console().print(table)
    print(json.dumps(figures))
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
