"""helm 3 and helm 4: install, upgrade, rollback, uninstall while a run trains, and the run does not notice."""

from __future__ import annotations

import json

import pytest
from control_plane import BIN, wait_for
from release import CHART, NAME

from fake.controllers import Controllers
from fake.fake_release import FakeRelease

LONG = {"max_completion_tokens": 8, "group_size": 2, "steps": 4000}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("helm", ["helm", pytest.param("helm3", marks=pytest.mark.soak)])
def test_upgrade_and_rollback_leave_a_run_alone(helm: str, controllers: Controllers, release: FakeRelease) -> None:
    release.helm_command = str(BIN / helm)
    recipe = {**release.spec("run")["recipe"], "coldstart": None, "sft": None, "stages": [LONG]}
    release.install_fake({"recipe": recipe})
    release.wait("run", "step 3", lambda status: (status.get("step") or 0) >= 3, 60)
    before = release.get("ptst", "run")

    # The Job that upgrades the definition needs a real node.
    values = ("definition.upgrade=false", "operator.resyncSeconds=2", "run.retry.maxAttempts=5")
    release.helm("upgrade", NAME, str(CHART), "--reuse-values", *[word for value in values for word in ("--set", value)])
    wait_for("another operator", lambda: release.starts == 2 and release.process, 60)
    upgraded = release.get("ptst", "run")
    assert upgraded["metadata"]["uid"] == before["metadata"]["uid"] and upgraded["spec"]["retry"]["maxAttempts"] == 5

    release.helm("rollback", NAME, "1")
    wait_for("the first operator again", lambda: release.starts == 3 and release.process, 60)
    step = release.status("run").get("step") or 0
    release.wait("run", "it trains on", lambda status: (status.get("step") or 0) > step + 3, 60)
    rolled = release.get("ptst", "run")
    assert rolled["metadata"]["uid"] == before["metadata"]["uid"]
    assert rolled["spec"]["retry"].get("maxAttempts") == before["spec"]["retry"].get("maxAttempts")
    assert [one["phase"] for one in controllers.reported(release.namespace)] == ["stage-1"], "one driver, from the first step on"
    (stage,) = rolled["status"]["phases"]
    assert stage["attemptsBegun"] == 1
    history = json.loads(release.helm("history", NAME, "-o", "json"))
    assert [one["status"] for one in history] == ["superseded", "superseded", "deployed"]

    release.helm("uninstall", NAME)
    wait_for("nothing is left", lambda: not release.get("ptst,rayclusters,rayjobs,jobs,pods")["items"], 90)
    assert "visionr1-runs" in [one["metadata"]["name"] for one in release.get("pvc")["items"]]
