"""Problems by how often a reasoner solved them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from visionr1.data.readers import load_problems
from visionr1.errors import BadInput
from visionr1.recipe.source import Source


def write(folder: Path, png: bytes, solved: list[Any]) -> dict[str, Any]:
    (folder / "a.png").write_bytes(png)
    rows = [{"image": "a.png", "problem": f"<image>What is {n}?", "answer": str(n)} for n in range(len(solved) + 1)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    lines = [{"id": f"rows.jsonl#{n}", "solved": share} for n, share in enumerate(solved)]
    (folder / "difficulty.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return {
        "path": str(folder / "rows.jsonl"),
        "difficulty": {"path": str(folder / "difficulty.jsonl"), "least": 0.25, "most": 0.75},
    }


def test_only_problems_of_this_difficulty_are_used(tmp_path: Path, png: bytes) -> None:
    source = write(tmp_path, png, [0.0, 0.25, 0.5, 0.75, 1, 0.3])
    rows = load_problems(Source.model_validate(source))
    assert [row.id for row in rows] == [f"rows.jsonl#{n}" for n in (1, 2, 3, 5)]
    assert [row.answer for row in rows] == ["1", "2", "3", "5"] and rows[-1].images == (png,)
    limited = load_problems(Source.model_validate(source | {"limit": 3}))
    assert [row.id for row in limited] == ["rows.jsonl#1", "rows.jsonl#2"]


@pytest.mark.parametrize(
    ("solved", "reported"),
    [
        ([0.0, 1.0], r"difficulty.jsonl lists no row of this source with a share between 0.25 and 0.75"),
        ([0.5, "half"], r"difficulty.jsonl#1 has no id and solved"),
        ([0.5, True], r"difficulty.jsonl#1 has no id and solved"),
    ],
)
def test_what_cannot_work_is_one_line(tmp_path: Path, png: bytes, solved: list[Any], reported: str) -> None:
    with pytest.raises(BadInput, match=reported):
        load_problems(Source.model_validate(write(tmp_path, png, solved)))


def test_the_demo_s_problems_have_none(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="leave out difficulty"):
        load_problems(Source.model_validate({"path": "demo://digits/train", "difficulty": {"path": "x.jsonl"}}))
