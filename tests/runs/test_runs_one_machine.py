"""The page for one machine: its files and its commands, as they are written there, in an empty folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from documents import ROOT, fences, files

PAGE = ROOT / "docs/one-machine.md"

pytestmark = pytest.mark.timeout(600)


def test_every_command_of_the_page_works_in_its_order(tmp_path: Path) -> None:
    for name, text in files(PAGE).items():
        (tmp_path / name).write_text(text)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    blocks = [text for language, text in fences(PAGE) if language == "sh"]
    said = ""
    for block in blocks:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout[-3000:]}"
        said += done.stdout
    assert '"overall": 0.5, "format": 1.0, "accuracy": 0.0' in said, "three dots are near four"
    for good in ("train.jsonl: 8 of 8 rows are good", "chains: 8 of 8 rows are good", "held-out.jsonl: 4 of 4 rows are good"):
        assert good in said
    run = tmp_path / "runs/dots"
    phases = json.loads((run / "summary.json").read_text())["phases"]
    assert {name: phase["state"] for name, phase in phases.items()} == dict.fromkeys(("sft", "stage-1", "evaluate"), "done")
    assert len(list((run / "eval").glob("*/stage-1.json"))) == 1, "the second evaluation's scores are apart"
    assert (run / "report.html").exists() and "my-base: accuracy" in said
