"""A node is lost with a run's pods on it: the run continues elsewhere."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from control_plane import fake_node

from fake.controllers import Controllers
from fake.fake_release import FakeRelease, ended

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

STAGE = {"max_completion_tokens": 8, "group_size": 2, "steps": 400}


@pytest.fixture
def lost(controllers: Controllers) -> Iterator[list[str]]:
    """Names of nodes that a test takes away; they come back."""
    names: list[str] = []
    yield names
    for name in names:
        controllers.plane.kubectl("delete", "node", name, "--ignore-not-found")
        controllers.plane.apply(fake_node(name))


def node_of(release: FakeRelease, role: str) -> str:
    (pod,) = release.get("pods", "-l", f"visionr1.io/role={role}")["items"]
    return str(pod["spec"]["nodeName"])


def test_a_node_that_is_deleted_with_the_head(controllers: Controllers, release: FakeRelease, lost: list[str]) -> None:
    """As a cloud does with a machine that is gone."""
    recipe = {**release.spec("run")["recipe"], "coldstart": None, "sft": None, "stages": [{**STAGE, "steps": 300}]}
    release.install_fake({"recipe": recipe})
    release.wait("run", "step 3", lambda status: (status.get("step") or 0) >= 3, 60)
    lost.append(node_of(release, "head"))
    begun = time.monotonic()
    controllers.plane.kubectl("delete", "node", lost[0])
    ended(release, ["run"], 400)
    print(json.dumps({"seconds": round(time.monotonic() - begun)}))
    (stage,) = release.status("run")["phases"][:1]
    assert stage["attemptsBegun"] == 1 and len(controllers.reported(release.namespace)) == 3, "KubeRay has begun the driver again"
    assert controllers.reported(release.namespace, "overlap") == []
    assert [one["step"] for one in release.steps("run")] == list(range(1, 301))
