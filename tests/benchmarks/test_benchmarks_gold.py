"""Published outputs of models get the verdicts that the sets' authors published."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GOLD = ROOT.parent / "shared" / "data" / "gold"


def compared(folder: Path) -> tuple[int, list[str]]:
    command = [sys.executable, str(ROOT / "benchmarks" / "gold.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert not done.stderr
    return done.returncode, done.stdout.splitlines()


def test_published_outputs_get_the_authors_verdicts() -> None:
    if not GOLD.is_dir():
        pytest.skip("the published outputs are not beside this checkout (../shared/data/gold)")
    code, lines = compared(GOLD)
    assert code == 0
    assert len(lines) >= 5


def test_a_wrong_verdict_is_counted_and_listed(tmp_path: Path) -> None:
    rows = [
        {"id": "1", "question": "", "options": [], "answer": "5", "response": "\\boxed{5}", "correct": True},
        {"id": "2", "question": "", "options": [], "answer": "5", "response": "\\boxed{5}", "correct": False},
    ]
    with gzip.open(tmp_path / "mathvision-x.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    assert compared(tmp_path) == (
        1,
        [
            "mathvision-x.jsonl.gz: 1 of 2 verdicts are the authors' (50.00%)",
            "  2: true '5', read '5': True, theirs False",
        ],
    )
