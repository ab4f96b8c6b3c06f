"""Held-out problems in a file, two of them damaged."""

import base64
import json
from pathlib import Path

import pytest
from published_sets import png


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    """Six good problems with the answers 0 to 5, then one with a broken image and one without an answer."""
    folder = tmp_path / "data"
    folder.mkdir()
    rows = []
    for number in range(6):
        (folder / f"{number}.png").write_bytes(png(40 * number))
        rows.append({"images": [f"{number}.png"], "problem": f"<image>How many? Hint {number}", "answer": str(number)})
    (folder / "broken.png").write_bytes(base64.b64decode("iVBORw0KGgo="))
    rows.append({"images": ["broken.png"], "problem": "<image>How many?", "answer": "1"})
    rows.append({"images": ["0.png"], "problem": "<image>How many?", "answer": ""})
    file = folder / "test.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file
