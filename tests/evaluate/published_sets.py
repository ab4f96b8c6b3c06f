"""Small sets in the layouts of published ones, and models that answer them."""

import io
import json
from pathlib import Path
from typing import Any

from PIL import Image


def png(shade: int) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (56, 56), (shade, shade, shade)).save(data, "PNG")
    return data.getvalue()


def mathvision_set(folder: Path, count: int = 6) -> Path:
    """Problem i asks for i; every third is a multiple choice with B as the answer."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for number in range(count):
        (folder / "images" / f"{number}.png").write_bytes(png(5 * number))
        row = {"id": str(number), "question": f"What is number {number}?\n<image1>", "image": f"images/{number}.png"}
        choice = {"options": ["90", str(number)], "answer": "B"} if number % 3 == 2 else {"options": [], "answer": str(number)}
        rows.append(row | choice)
    return written(folder / "test.jsonl", rows)


def mathverse_set(folder: Path) -> Path:
    """Four versions of a problem whose answer is five."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "images" / "0.png").write_bytes(png(0))
    versions = ("Text Dominant", "Text Lite", "Vision Intensive", "Vision Only")
    rows = [
        {
            "problem_index": "1",
            "problem_version": version,
            "question": f"{version}: how many?",
            "image": "images/0.png",
            "answer": "5",
        }
        for version in versions
    ]
    return written(folder / "testmini.jsonl", rows)


def written(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file
