"""How long a run takes to know its rows when it starts, first and again, and how much memory that takes with many rows.

    python benchmarks/row_checks.py --rows 10000 50000 200000 --json row-checks.json

For each number it makes a .jsonl file with as many problems, each with a PNG of its own (drawn once, written often), in --folder.
A process of its own then does what a stage does: it opens the rows, checks them, and draws a batch. The first one looks at every
image, the second finds in the run directory what the first one has kept. Both must draw the same rows from the same data.

The memory is the peak RSS of that process, with the libraries that it has imported. The files are in the page cache.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table

from visionr1.data.check import check_problems
from visionr1.data.kept import Kept
from visionr1.data.readers import load_problems, select
from visionr1.data.sampler import PromptSampler
from visionr1.recipe import load_recipe
from visionr1.recipe.source import Source
from visionr1.rundir.layout import CHECKED_TRAIN
from visionr1.storage import open_store

BATCH: Final = 64
A_FOLDER: Final = 1000
"""Images in a folder."""


def drawing(side: int) -> bytes:
    """A diagram of side x side pixels, as data sets have them."""
    image = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(image)
    for place in range(12):
        draw.polygon([(37 * place % side, 20), (side - 20, 31 * place % side), (53 * place % side, side - 20)], outline="black")
        draw.text((29 * place % side, 41 * place % side), f"{place}", fill="blue")
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def make_rows(folder: Path, rows: int, image: bytes) -> Path:
    """The data file, with its images beside it."""
    folder.mkdir(parents=True)
    with (folder / "rows.jsonl").open("w") as lines:
        for place in range(rows):
            path = f"images/{place // A_FOLDER}/{place}.png"
            if place % A_FOLDER == 0:
                (folder / path).parent.mkdir(parents=True)
            (folder / path).write_bytes(image)
            problem = f"<image>In the figure, AB = {place} and BC = {place + 1}. Find the area of the triangle ABC."
            lines.write(json.dumps({"images": [path], "problem": problem, "answer": str(place)}) + "\n")
    return folder / "rows.jsonl"


def start(data: str, run: str) -> dict[str, Any]:
    """What a stage does with its rows before its first step, and its figures."""
    recipe = load_recipe("vision-r1")
    begun = time.perf_counter()
    rows = load_problems(Source(path=data))
    report = check_problems(
        rows,
        min_pixels=recipe.model.min_pixels,
        max_pixels=recipe.model.max_pixels,
        max_prompt_tokens=recipe.data.max_prompt_tokens,
        kept=Kept(open_store(run), CHECKED_TRAIN),
    )
    sampler = PromptSampler(len(report.good), recipe.seed, report.fingerprint)
    drawn = [row.id for row in (select(rows, report.good)[place] for place in sampler.next(BATCH))]
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": round(seconds, 2), "peak_mib": round(peak), "fingerprint": report.fingerprint, "drawn": drawn}


def measure(folder: Path, rows: int, image: bytes) -> dict[str, Any]:
    """First and second start of a run on `rows` rows, each in a process of its own."""
    data = make_rows(folder / str(rows), rows, image)
    words = [sys.executable, __file__, "--start", str(data), str(folder / str(rows) / "run")]
    first, again = (json.loads(subprocess.run(words, check=True, capture_output=True).stdout.splitlines()[-1]) for _ in range(2))
    same = all(first[name] == again[name] for name in ("fingerprint", "drawn"))
    figures = {
        name: {"seconds": found["seconds"], "peak_mib": found["peak_mib"]} for name, found in (("first", first), ("again", again))
    }
    return {"rows": rows, **figures, "same_rows": same}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 50_000, 200_000])
    parser.add_argument("--side", type=int, default=448, help="pixels a side of each image")
    parser.add_argument("--folder", help="where the rows are made; default: a temporary folder")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument("--start", nargs=2, help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.start:
        print(json.dumps(start(*wanted.start)))
        return
    image = drawing(wanted.side)
    with tempfile.TemporaryDirectory(prefix="row-checks-", dir=wanted.folder) as folder:
        found = [measure(Path(folder), rows, image) for rows in wanted.rows]
    table = Table("rows", "first start, s", "again, s", "peak at first, MiB", "peak again, MiB", "same rows")
    for one in found:
        first, again = one["first"], one["again"]
        seconds = (f"{first['seconds']:.1f}", f"{again['seconds']:.1f}")
        table.add_row(
            f"{one['rows']:,}", *seconds, str(first["peak_mib"]), str(again["peak_mib"]), "yes" if one["same_rows"] else "NO"
        )
    Console(stderr=True).print(table)
    text = json.dumps({"image_pixels": wanted.side**2, "image_bytes": len(image), "runs": found}, indent=2)
    print(text)
    if wanted.json:
        wanted.json.write_text(text + "\n")
    if not all(one["same_rows"] for one in found):
        raise SystemExit("a second start does not draw the rows of the first")


if __name__ == "__main__":
    main()
