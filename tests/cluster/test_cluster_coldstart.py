"""A cold start whose describer is vLLM inside the job: a RayJob with a cluster of its own, on the real node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from control_plane import ControlPlane, wait_for
from real_node import ROOT
from release import RECIPE, Release

pytestmark = pytest.mark.timeout(900)

DESCRIBER = {"base_url": None, "model": "demo", "max_tokens": 64, "workers": {"cpu_kv_cache_gib": 0.25}}
COLDSTART = {
    "problems": {"limit": 300},
    "describer": DESCRIBER,
    "pseudo_cot": False,
    "prompts_dir": str(ROOT / "tests/cluster/prompts"),  # the demo's base model knows no other requests than its questions
}


@pytest.fixture
def release(platform: ControlPlane, namespace: str) -> Iterator[Release]:
    made = Release(platform, namespace)
    made.install({**RECIPE, "coldstart": COLDSTART, "data": {"held_out": None}, "stages": []}, deadlines={"stopSeconds": 60})
    yield made
    made.uninstall()


def test_the_describer_runs_in_a_pod_of_its_own_that_goes_with_the_phase(release: Release) -> None:
    roles: set[str] = set()

    def written(status: dict[str, Any]) -> bool:
        pods = [one["metadata"]["labels"] for one in release.get("pods", "-l", "visionr1.io/phase=coldstart")["items"]]
        roles.update(one["visionr1.io/role"] for one in pods)
        return any(one["name"] == "coldstart" and one.get("complete") for one in status.get("phases", []))

    release.wait("demo", "the cold start is written", written)
    assert roles == {"coldstart", "describer"}
    (attempt,) = next(one for one in release.status("demo")["phases"] if one["name"] == "coldstart")["attempts"]
    assert (attempt["kind"], attempt["ownCluster"]) == ("RayJob", True)
    wait_for("its cluster is gone", lambda: not release.get("rayclusters")["items"], 120)
