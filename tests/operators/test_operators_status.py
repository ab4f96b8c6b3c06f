"""The status: it goes to the API server and back as it is, and no mistake in a change of it goes unseen."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
from ptst_operator.status import PhaseStatus, Status, read_status, status_patch
from pydantic import ValidationError

CHANGES: dict[str, str | None] = {
    "complete=True": None,
    "is_complete=True": 'Unexpected keyword argument "is_complete"',
    'committed_step="seven"': 'Argument "committed_step" to "replace" of "PhaseStatus" has incompatible type "str"',
}


@pytest.mark.parametrize("change", [{"is_complete": True}, {"committed_step": "seven"}], ids=["name", "type"])
def test_a_change_with_a_wrong_name_or_type_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(change))):
        replace(PhaseStatus(name="sft"), **change)


@pytest.mark.timeout(600)  # mypy reads the models and pydantic from the start
def test_a_change_with_a_wrong_name_or_type_is_seen_by_the_type_checker(tmp_path: Path) -> None:
    lines = [f'changed_{number} = replace(PhaseStatus(name="sft"), {change})' for number, change in enumerate(CHANGES)]
    source = tmp_path / "changes.py"
    imports = ["from dataclasses import replace", "from ptst_operator.status import PhaseStatus"]
    source.write_text("\n".join([*imports, *lines]) + "\n")
    root = Path(__file__).parents[2]
    # A process of its own, as mypy changes Python's limit of recursion; begun where mypy finds its settings and the operator.
    done = subprocess.run([sys.executable, "-m", "mypy", str(source)], cwd=root, capture_output=True, text=True)
    found = done.stdout
    for number, wrong in enumerate(CHANGES.values(), start=len(imports) + 1):
        of_line = [line for line in found.splitlines() if f"changes.py:{number}: error" in line]
        assert [wrong is not None and wrong in line for line in of_line] == ([True] if wrong else []), found


def test_a_part_is_changed_by_a_copy_only() -> None:
    phase = PhaseStatus(name="sft")
    with pytest.raises(FrozenInstanceError):
        phase.complete = True  # type: ignore[misc]


def test_a_status_comes_back_from_the_api_server_as_it_was() -> None:
    status = replace(Status(phase="Running", step=3), phases=[PhaseStatus(name="sft", committed_step=3)])
    written = status_patch(status)
    assert written["phases"][0]["committedStep"] == 3 and "reward" not in written
    assert read_status({"status": written}) == status
    assert read_status({}) == Status()
