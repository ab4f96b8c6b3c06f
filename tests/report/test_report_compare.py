"""Several runs on one page, read back as a browser would."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from test_report_page import Page
from typer.testing import CliRunner

from visionr1.cli import app
from visionr1.errors import BadInput
from visionr1.report.compare import comparable, compared_page, compared_panels, read_runs
from visionr1.report.curves import PAPER_CURVES, stretched
from visionr1.storage import open_store


def another(run: Path, name: str) -> Path:
    copy = run.parent / name
    shutil.copytree(run, copy)
    recipe = copy / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("name: geometry-7b", f"name: {name}"))
    return copy


def test_two_runs_share_six_panels_and_a_table(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run = make_run()
    other = another(run, "geometry-long")
    out = tmp_path / "compared.html"
    done = CliRunner().invoke(app, ["report", "--compare", str(run), str(other), "--paper", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "compared" in done.output
    page = Page(out.read_text())
    assert [attrs["id"] for tag, attrs in page.tags if tag == "figure"] == [f"panel-{letter}" for letter in "ABCDEF"]
    head, *rows = [[cell.partition("\n")[0] for cell in row] for row in page.rows]
    assert head == ["run", "accuracy", "before GRPO", "mean length", "cut", "steps", "tokens sampled", "time"]
    assert [row[0] for row in rows] == ["geometry-7b", "geometry-long"]
    assert rows[0][1:] == rows[1][1:]
    assert rows[0][5] == "300"
    assert out.read_text().count("faint") >= 3
    assert not [tag for tag, _ in page.tags if tag in ("script", "link")]


def test_each_run_has_its_colour_and_the_paper_only_on_request(make_run: Callable[..., Path]) -> None:
    run = make_run()
    runs = read_runs([open_store(str(run)), open_store(str(another(run, "b")))])
    plain = {panel.letter: panel.svg for panel in compared_panels(runs, paper=False)}
    assert all("p1" in svg and "p2" in svg and "faint" not in svg for svg in plain.values())
    faint = {panel.letter: panel.svg for panel in compared_panels(runs, paper=True)}
    assert [letter for letter, svg in faint.items() if "faint" in svg] == ["D", "E", "F"]


def test_the_papers_curve_keeps_its_shape() -> None:
    curve = stretched(PAPER_CURVES["length"], last=60, highest=100.0)
    assert curve[0] == pytest.approx((0, 100 * 2350 / 3010))
    assert curve[-1] == (60, 100.0)


def test_a_run_without_scores_or_steps_is_compared_as_far_as_it_is(make_run: Callable[..., Path]) -> None:
    run = make_run(("coldstart",), steps=0)
    runs = read_runs([open_store(str(run)), open_store(str(another(run, "b")))])
    assert "appears with the first GRPO step" in compared_page(runs, paper=True)


def test_runs_that_were_scored_on_other_problems_are_said_to_be_no_pair(make_run: Callable[..., Path]) -> None:
    run = make_run()
    other = another(run, "b")
    for folder, mark in ((run, "one"), (other, "two")):
        for file in (folder / "eval").glob("*.json"):
            file.write_text(json.dumps(json.loads(file.read_text()) | {"fingerprint": mark}))
    runs = read_runs([open_store(str(run)), open_store(str(other))])
    assert "different held-out problems" in comparable(runs)
    assert "different held-out problems" in compared_page(runs, paper=False)


def test_one_run_is_no_comparison(make_run: Callable[..., Path]) -> None:
    run = make_run()
    with pytest.raises(BadInput, match="a comparison is of 2 to 6 runs, not 1"):
        read_runs([open_store(str(run))])
    done = CliRunner().invoke(app, ["report", str(run), str(run)])
    assert done.exit_code == 64
