"""The dashboards against Grafana's schema and the metrics that exist, and mistakes in their sources."""

import json
import re
from pathlib import Path

import pytest
from generators.alerts import load_alerts
from generators.board import WIDTH, Dashboard, load_dashboards
from generators.grafana import STAGE_BORDERS, to_json
from grafana_model import Board
from ptst_operator.metrics import OPERATOR_TABLE, OperatorInstrument

from visionr1.errors import BadInput
from visionr1.metrics import TABLE, Instrument

DASHBOARDS = load_dashboards()
FROM_OTHERS = {
    "DCGM_FI_DEV_GPU_UTIL",
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
    "DCGM_FI_DEV_FB_USED",
    "DCGM_FI_DEV_FB_FREE",
    "DCGM_FI_DEV_POWER_USAGE",
    "DCGM_FI_DEV_XID_ERRORS",
    "kube_pod_container_status_restarts_total",
}
"""Metrics of dcgm-exporter and kube-state-metrics."""
boards = pytest.mark.parametrize("board", DASHBOARDS, ids=lambda board: board.uid)


def sample_names(item: Instrument | OperatorInstrument) -> list[str]:
    return [item.name + suffix for suffix in ("_bucket", "_count", "_sum")] if item.kind == "histogram" else [item.name]


INSTRUMENTS: list[Instrument | OperatorInstrument] = [*TABLE, *OPERATOR_TABLE]
DECLARED = {name for item in INSTRUMENTS for name in sample_names(item)} | FROM_OTHERS
OWN_LABELS = {
    name: {"run", "stage", "role", *([item.label] if item.label else [])} for item in TABLE for name in sample_names(item)
} | {name: set(item.labels) for item in OPERATOR_TABLE for name in sample_names(item)}


@boards
def test_grafana_knows_every_field(board: Dashboard) -> None:
    Board.model_validate_json(json.dumps(to_json(board)))


@boards
def test_panels_neither_overlap_nor_leave_the_page(board: Dashboard) -> None:
    seen: set[tuple[int, int]] = set()
    for panel in to_json(board)["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= WIDTH and not cells & seen, panel["title"]
        seen |= cells
    ids = [panel["id"] for panel in to_json(board)["panels"]]
    assert len(set(ids)) == len(ids)


@boards
def test_each_panel_has_a_line_that_says_what_good_or_bad_looks_like(board: Dashboard) -> None:
    for panel in board.panels:
        assert "\n" not in panel.description and panel.description.endswith("."), panel.title
        assert len(panel.description.split(". ")) > 1 or ":" in panel.description, panel.title
    assert len({panel.title for panel in board.panels}) == len(board.panels)


def test_variables_are_those_that_the_queries_use() -> None:
    used = set(re.findall(r"\$(\w+)", " ".join(query.expr for board in DASHBOARDS for p in board.panels for query in p.queries)))
    assert used == {"namespace", "run", "pod", "window"}
    names = [variable["name"] for variable in to_json(DASHBOARDS[0])["templating"]["list"]]
    assert names == ["datasource", "namespace", "run", "pod", "window"]


EXPRESSIONS = [
    *((f"{board.uid}: {panel.title}", query.expr) for board in DASHBOARDS for panel in board.panels for query in panel.queries),
    *((alert.name, alert.expr) for alert in load_alerts()),
    ("stage borders", STAGE_BORDERS),
]


def metrics_of(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:visionr1_\w+|DCGM_\w+|kube_\w+)\b", re.sub(r'"[^"]*"', '""', expression)))


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS, ids=[where for where, _ in EXPRESSIONS])
def test_only_metrics_that_exist_are_asked_for(where: str, expression: str) -> None:
    found = metrics_of(expression)
    assert found and found <= DECLARED


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS, ids=[where for where, _ in EXPRESSIONS])
def test_only_labels_that_a_metric_has_are_matched(where: str, expression: str) -> None:
    from_scrape = {"namespace", "pod", "le", "exported_namespace", "exported_pod"}
    for name, matchers in re.findall(r"\b(visionr1_\w+){([^}]*)}", expression):
        matched = set(re.findall(r"(\w+)\s*=", matchers))
        assert matched <= OWN_LABELS[name] | from_scrape, name


def test_every_instrument_is_shown_somewhere() -> None:
    shown = set().union(*(metrics_of(expression) for _, expression in EXPRESSIONS))
    hidden = {item.name for item in INSTRUMENTS if not set(sample_names(item)) & shown}
    for_queries = {
        "steps_total",
        "completion_tokens_max",
        "logprob_mismatch_max",
        "parity_probe_max",
        "workers",
        "pause_seconds_total",
    }
    assert hidden == {f"visionr1_{name}" for name in for_queries}, "show it, or say here that it is for queries only"


SOURCE = """\
title: T
description: D
selectors: {run: 'run=~"$run"'}
rows:
  - title: R
    panels:
      - title: P
        unit: short
        description: Good.
        queries:
          - expr: visionr1_loss{@run@}
            legend: "{{run}}"
"""


def test_a_source_is_read_with_its_selectors(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(SOURCE)
    (board,) = load_dashboards(tmp_path)
    (panel,) = board.panels
    assert (board.uid, panel.kind, panel.width) == ("mine", "timeseries", 8)
    assert panel.queries[0].expr == 'visionr1_loss{run=~"$run"}'


@pytest.mark.parametrize(
    ("text", "instead", "reported"),
    [
        ("unit: short", "unit: short\n        colour: red", "mine.yaml: rows.0.panels.0.colour: unknown key"),
        ("unit: short", "unit: furlong", "mine.yaml: rows.0.panels.0.unit: Input should be 'short', "),
        ("        unit: short\n", "", "mine.yaml: rows.0.panels.0.unit: missing"),
        (
            "unit: short",
            "unit: short\n        width: 25",
            "mine.yaml: rows.0.panels.0.width: Input should be less than or equal to 24",
        ),
        (
            "unit: short",
            "unit: short\n        unit: s",
            "mine.yaml: rows.0.panels.0.unit: given twice, on lines 8 and 9; keep one",
        ),
        ("title: T", "uid: other\ntitle: T", "mine.yaml: uid: unknown key"),
        ("@run@", "@runs@", "mine.yaml: no selector is called runs; there are run"),
        ("{@run@}", "", "mine.yaml: no query uses the selector run; remove it"),
    ],
)
def test_a_mistake_in_a_source_is_named_with_its_place(text: str, instead: str, reported: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(SOURCE.replace(text, instead, 1))
    with pytest.raises(BadInput) as error:
        load_dashboards(tmp_path)
    assert str(error.value).startswith(reported)


ALERT = """\
MyAlert:
  severity: warning
  expr: visionr1_kl_mean > @zeroSignalRatio@
  for: 5m
  summary: Much.
  runbook: Look.
"""


@pytest.mark.parametrize(
    ("text", "instead", "reported"),
    [
        ("for: 5m", "hold: 5m", "mine.yaml: MyAlert: for: missing"),
        ("for: 5m", "for: 5m\n  wait: 5m", "mine.yaml: MyAlert: wait: unknown key"),
        ("zeroSignalRatio", "noSignal", "mine.yaml: MyAlert: no threshold is called noSignal"),
        (ALERT, "MyAlert: text", "mine.yaml: MyAlert: not a group of keys"),
        ("warning", "bad", "mine.yaml: MyAlert: severity: Input should be 'critical' or 'warning'"),
    ],
)
def test_a_mistake_in_an_alert_is_named_with_its_place(text: str, instead: str, reported: str, tmp_path: Path) -> None:
    source = tmp_path / "mine.yaml"
    source.write_text(ALERT.replace(text, instead, 1))
    with pytest.raises(BadInput) as error:
        load_alerts(source)
    assert str(error.value).startswith(reported)
