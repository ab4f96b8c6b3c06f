"""docs/security.md claims nothing that no test proves."""

from __future__ import annotations

import ast
import re

import pytest
from documents import ROOT

PAGE = ROOT / "docs/security.md"
ROWS = [
    line for line in PAGE.read_text().partition("## What they can")[2].partition("\n## ")[0].splitlines() if line.startswith("| ")
][1:]
PROOF = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_the_table_is_read() -> None:
    assert len(ROWS) > 20


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2:60])
def test_each_row_names_tests_that_exist(row: str) -> None:
    actor, power, proof = (cell.strip() for cell in row.strip("|").split("|"))
    assert actor and power
    named = PROOF.findall(proof)
    assert named and PROOF.sub("", proof).strip() == "", "only names of tests stand there"
    for file, name in named:
        tree = ast.parse((ROOT / file).read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{file} has no {name}"


def test_the_page_can_be_found() -> None:
    for document in ("SECURITY.md", "README.md", "docs/README.md", "docs/operations.md"):
        assert "security.md)" in (ROOT / document).read_text().replace("SECURITY.md)", "")
