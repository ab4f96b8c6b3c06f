"""The bill of materials names what is locked, and no locked package has a known vulnerability."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from provenance import LOCKS, bill, pinned
from vulnerabilities import LIST, findings, is_affected


def test_the_bill_of_materials_names_every_locked_package() -> None:
    named = {(one["name"], one["version"]) for one in bill(LOCKS)["components"]}
    assert named == {package for lock in LOCKS for package in pinned(lock)} and len(named) > 200
    for lock in LOCKS:
        hashed = sum(line.endswith("\\") and not line.startswith(" ") for line in lock.read_text().splitlines())
        assert len(pinned(lock)) == hashed, f"{lock.name}: each entry is read"


def known() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(LIST.read_text())
    return found


def test_no_locked_package_has_a_known_vulnerability() -> None:
    assert findings(known(), LOCKS) == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("jinja2==2.11.2", "PYSEC-2021-66"),
        ("Jinja2==2.11.2 \\", "PYSEC-2021-66"),
        ("torch==1.13.0", "PYSEC-2022-43015"),
        ("torch==1.13.1", None),
        ("jinja2==3.1.99", None),
        ("no-such-package==1.0", None),
    ],
)
def test_the_list_finds_what_was_vulnerable(line: str, found: str | None, tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text(f"{line}\n    --hash=sha256:00\n")
    lines = findings(known(), (lock,))
    assert any(str(found) in one for one in lines) if found else not lines


@pytest.mark.parametrize(
    ("version", "affected"),
    [("0.9", False), ("1.0", True), ("1.4", False), ("1.10", False), ("2.0rc1", True), ("2.1", True), ("2.2", False)],
)
def test_a_range_is_read_as_osv_says(version: str, affected: bool) -> None:
    events = [{"introduced": "2.0rc1"}, {"last_affected": "2.1"}, {"introduced": "1.0"}, {"fixed": "1.4"}]
    assert is_affected(version, {"ranges": [events], "versions": []}) == affected
