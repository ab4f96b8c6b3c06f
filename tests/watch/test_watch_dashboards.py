"""The dashboards against Grafana's schema, their own files, and the metrics that exist."""

import json
import re
from pathlib import Path

import pytest
from grafana_model import Board

from visionr1.metrics import TABLE
from visionr1.metrics.operator_table import OPERATOR_TABLE
from visionr1.watch.alerts import ALERTS
from visionr1.watch.cluster import FROM_OTHERS
from visionr1.watch.files import DASHBOARDS, files
from visionr1.watch.grafana import STAGE_BORDERS, WIDTH, to_json

ROOT = Path(__file__).parents[2]
boards = pytest.mark.parametrize("board", DASHBOARDS, ids=lambda board: board.uid)


def sample_names(item):
    return [item.name + suffix for suffix in ("_bucket", "_count", "_sum")] if item.kind == "histogram" else [item.name]


DECLARED = {name for item in (*TABLE, *OPERATOR_TABLE) for name in sample_names(item)} | set(FROM_OTHERS)
OWN_LABELS = {
    name: {"run", "stage", "role", *([item.label] if item.label else [])} for item in TABLE for name in sample_names(item)
} | {name: set(item.labels) for item in OPERATOR_TABLE for name in sample_names(item)}


def test_the_files_are_what_the_code_makes():
    for path, content in files().items():
        assert (ROOT / path).read_text() == content, f"{path} is not what the code makes: run make dashboards"


def test_no_file_is_left_from_a_dashboard_that_is_gone():
    folder = ROOT / "charts" / "visionr1-ptst" / "dashboards"
    assert {file.stem for file in folder.iterdir()} == {board.uid for board in DASHBOARDS}


@boards
def test_grafana_knows_every_field(board):
    Board.model_validate_json(json.dumps(to_json(board)))


@boards
def test_panels_neither_overlap_nor_leave_the_page(board):
    seen = set()
    for panel in to_json(board)["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= WIDTH and not cells & seen, panel["title"]
        seen |= cells
    ids = [panel["id"] for panel in to_json(board)["panels"]]
    assert len(set(ids)) == len(ids)


@boards
def test_each_panel_has_a_line_that_says_what_good_or_bad_looks_like(board):
    for panel in board.panels:
        assert "\n" not in panel.description and panel.description.endswith("."), panel.title
        assert len(panel.description.split(". ")) > 1 or ":" in panel.description, panel.title
    assert len({panel.title for panel in board.panels}) == len(board.panels)


def test_variables_are_those_that_the_queries_use():
    used = set(re.findall(r"\$(\w+)", " ".join(query.expr for board in DASHBOARDS for p in board.panels for query in p.queries)))
    assert used == {"namespace", "run", "pod", "window"}
    names = [variable["name"] for variable in to_json(DASHBOARDS[0])["templating"]["list"]]
    assert names == ["datasource", "namespace", "run", "pod", "window"]


EXPRESSIONS = [
    *((f"{board.uid}: {panel.title}", query.expr) for board in DASHBOARDS for panel in board.panels for query in panel.queries),
    *((alert.name, alert.expr) for alert in ALERTS),
    ("stage borders", STAGE_BORDERS),
]


def metrics_of(expression):
    return set(re.findall(r"\b(?:visionr1_\w+|DCGM_\w+|kube_\w+)\b", re.sub(r'"[^"]*"', '""', expression)))


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS, ids=[where for where, _ in EXPRESSIONS])
def test_only_metrics_that_exist_are_asked_for(where, expression):
    found = metrics_of(expression)
    assert found and found <= DECLARED


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS, ids=[where for where, _ in EXPRESSIONS])
def test_only_labels_that_a_metric_has_are_matched(where, expression):
    from_scrape = {"namespace", "pod", "le", "exported_namespace", "exported_pod"}
    for name, matchers in re.findall(r"\b(visionr1_\w+){([^}]*)}", expression):
        matched = set(re.findall(r"(\w+)\s*=", matchers))
        assert matched <= OWN_LABELS[name] | from_scrape, name


def test_every_instrument_is_shown_somewhere():
    shown = set().union(*(metrics_of(expression) for _, expression in EXPRESSIONS))
    hidden = {item.name for item in (*TABLE, *OPERATOR_TABLE) if not set(sample_names(item)) & shown}
    for_queries = {"steps_total", "completion_tokens_max", "logprob_mismatch_max", "parity_probe_max"}
    assert hidden == {f"visionr1_{name}" for name in for_queries}, "show it, or say here that it is for queries only"
