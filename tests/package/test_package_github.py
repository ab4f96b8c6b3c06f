"""What GitHub reads is what it can read: forms, the workflow of CI, and who reviews what."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from documents import ROOT

GITHUB = ROOT / ".github"
WORKFLOW = GITHUB / "workflows/ci.yml"
FORMS = [GITHUB / "ISSUE_TEMPLATE/bug.yml", GITHUB / "ISSUE_TEMPLATE/feature.yml"]
FIELDS = {"markdown", "textarea", "input", "dropdown", "checkboxes"}


def read(path: Path) -> dict[str, Any]:
    found = yaml.safe_load(path.read_text())
    assert isinstance(found, dict)
    return found


def steps() -> list[dict[str, Any]]:
    (job,) = read(WORKFLOW)["jobs"].values()
    found: list[dict[str, Any]] = job["steps"]
    return found


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_has_what_github_asks_for(form: Path) -> None:
    found = read(form)
    assert found["name"] and found["description"]
    assert {field["type"] for field in found["body"]} <= FIELDS
    asked = [field for field in found["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in asked}) == len(asked)
    assert all(field["attributes"]["label"] for field in asked)
    assert any(field.get("validations", {}).get("required") for field in asked)


def test_issues_are_written_in_a_form_and_vulnerabilities_are_not() -> None:
    found = read(GITHUB / "ISSUE_TEMPLATE/config.yml")
    assert found["blank_issues_enabled"] is False
    assert all(link["name"] and link["about"] and link["url"].startswith("https://") for link in found["contact_links"])
    assert any("SECURITY.md" in link["about"] for link in found["contact_links"])


def test_the_workflow_runs_all_checks_with_the_least_rights() -> None:
    workflow = read(WORKFLOW)
    assert [step["run"] for step in steps() if "bash .ci/run" in step.get("run", "")] != []
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["group"]
    assert all(job["timeout-minutes"] <= 360 for job in workflow["jobs"].values())


def test_actions_are_pinned_by_a_commit_and_name_its_release() -> None:
    used = re.findall(r"uses: (.*)", WORKFLOW.read_text())
    assert len(used) == len([step for step in steps() if "uses" in step])
    assert [line for line in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)] == []


def test_the_cache_holds_what_the_checks_fill() -> None:
    (cached,) = [step["with"]["path"].split() for step in steps() if step.get("uses", "").startswith("actions/cache@")]
    assert set(cached) == {"~/.cache/visionr1-ptst", "~/.cache/uv"}
    assert "${XDG_CACHE_HOME:-$HOME/.cache}/visionr1-ptst" in (ROOT / "tests/cluster/build.sh").read_text()


def test_every_path_with_owners_exists() -> None:
    lines = [line.split() for line in (GITHUB / "CODEOWNERS").read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"@visionr1-ptst/[a-z]+", owner) for _, *owners in lines for owner in owners)
    assert [path for path, *_ in lines if path != "*" and not (ROOT / path.strip("/")).exists()] == []
    assert lines[0] == ["*", "@visionr1-ptst/maintainers"]


def test_a_pull_request_is_asked_for_reason_proof_docs_and_a_failed_test() -> None:
    text = (GITHUB / "pull_request_template.md").read_text()
    assert all(word in text for word in ("## Why", "## Proof", "docs/", "seen to fail"))
