"""A gate on the real node: it stops a stage in its middle, takes the run back, and the run trains the same steps again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from control_plane import ControlPlane, wait_for
from release import ONLY_STAGES, TRAINED, Release

pytestmark = [pytest.mark.timeout(1200), pytest.mark.soak]

GATE = {"metric": "completion_tokens_mean", "steps": 4, "min": 1000, "action": "Rollback", "rollbackTo": "stage-1/step-4"}


@pytest.fixture
def release(platform: ControlPlane, namespace: str) -> Iterator[Release]:
    made = Release(platform, namespace)
    made.install({**ONLY_STAGES, "checkpoint": {"every": 2, "keep_last": 50}}, deadlines={"stopSeconds": 60}, gates=[GATE])
    yield made
    made.uninstall()


def test_a_rolled_back_run_trains_the_same_again(release: Release, undisturbed: list[dict[str, Any]]) -> None:
    status = release.wait("demo", "held", lambda status: status if status.get("phase") == "Held" else None)
    held = next(one for one in status["conditions"] if one["type"] == "Held")
    assert held["reason"] == "RolledBack" and "less than 1000; the run went back to stage-1 at step 4" in held["message"]
    wait_for("no pod", lambda: not release.pods("visionr1.io/run=demo"), 60)
    assert [one["step"] for one in release.steps("demo")] == [1, 2, 3, 4]
    (archive,) = (release.runs / "demo/rolled-back").glob("*-0/steps.jsonl")
    taken = archive.read_text().splitlines()
    assert json.loads(taken[0])["step"] == 5
    release.kubectl("patch", "ptst", "demo", "--type", "merge", "-p", '{"spec":{"gates":[]}}')
    (line,) = [word for word in held["message"].split("then: ") if word.startswith("kubectl")]
    release.kubectl(*line.replace("NAME", "demo").split()[1:])
    release.wait("demo", "the end", lambda status: status.get("phase") == "Succeeded")
    trained = [{key: one[key] for key in TRAINED} for one in release.steps("demo")]
    assert trained == [{key: one[key] for key in TRAINED} for one in undisturbed]
