"""The table of docs/chart.md: each row of ours names a test that renders the chart, and values that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from chart import CHART, manifests

HERE = Path(__file__).parent
PAGE = Path(__file__).parents[2] / "docs/chart.md"


def rows() -> list[list[str]]:
    """Cells of each row."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("|") and line.endswith("` |") and "`test_" in line]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_each_row_names_a_test_that_renders() -> None:
    there = {
        name: body
        for path in HERE.glob("test_cluster_*.py")
        for name, body in re.findall(
            r"^def (test_\w+)\(.*?\n(.*?)(?=^(?:def|class|@|[A-Z])|\Z)", path.read_text(), re.MULTILINE | re.DOTALL
        )
    }
    named = [cells[-1].strip("`") for cells in rows()]
    assert len(named) == len(set(named)) > 25
    assert [name for name in named if name not in there] == []
    renders = re.compile(
        r"manifests\(|refusal\(|arguments\(|egress\(|opened\(|dashboard\(|alerts\(|monitors\(|boards\(|names\(|released|blocks\(|below\("
    )
    assert [name for name in named if not renders.search(there[name])] == []


def keys(node: dict[str, Any], path: str = "") -> set[str]:
    """Dotted paths of all values."""
    below = [keys(one, f"{path}{name}.") for name, one in node.get("properties", {}).items()]
    return {f"{path}{name}" for name in node.get("properties", {})}.union(*below)


def test_each_value_that_the_table_names_exists() -> None:
    known = keys(json.loads((CHART / "values.schema.json").read_text()))
    last = {path.rpartition(".")[2] for path in known}
    named = {value for cells in rows() for value in re.findall(r"`([\w.]+)`", cells[1])} - {"global.imageRegistry"}
    assert len(named) > 30
    assert {value for value in named if value not in known and ("." in value or value not in last)} == set()


def test_the_values_of_the_page_render() -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 5
    for block in blocks:
        assert manifests(yaml.safe_load(block))
