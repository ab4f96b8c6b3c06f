"""Every generated file is what `make generate` writes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from documents import CHART, ROOT
from generators.files import files

from visionr1.metrics import RECORD_KEYS, TABLE


def test_generated_files_are_what_make_generate_writes() -> None:
    stale = [path for path, text in files().items() if not (ROOT / path).exists() or (ROOT / path).read_text() != text]
    assert stale == [], "run `make generate` and commit what it writes"
    dashboards = {f"{CHART.relative_to(ROOT)}/dashboards/{path.name}" for path in (CHART / "dashboards").iterdir()}
    assert dashboards <= set(files()), "remove the file of a dashboard that is gone"


def test_make_generate_writes_all_of_them(tmp_path: Path) -> None:
    for folder in ("charts", "docs"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    for path in files():
        (tmp_path / path).write_text("")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "charts")}
    subprocess.run([sys.executable, "-m", "generators"], env=environment, cwd=tmp_path, check=True)
    assert {path: (tmp_path / path).read_text() for path in files()} == files()


def test_a_mistake_in_a_source_is_one_line_and_writes_nothing(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "charts", tmp_path / "charts")
    source = tmp_path / "charts/generators/dashboards/visionr1-run.yaml"
    source.write_text(source.read_text().replace("unit: percentunit", "unti: percentunit", 1))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "charts")}
    done = subprocess.run([sys.executable, "-m", "generators"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 64 and "Traceback" not in done.stderr
    assert "visionr1-run.yaml: rows.0.panels.2.unti: unknown key" in done.stderr
    assert not (tmp_path / "docs").exists()


def test_the_page_of_metrics_names_every_instrument_and_record_key() -> None:
    page = files()["docs/metrics.md"]
    assert all(f"| `{item.name}` |" in page for item in TABLE)
    assert all(f"`{key}`" in page for key in RECORD_KEYS)
