"""`helm install` on a real node: SFT on two pods, a stage with a head and two workers, evaluation, and what is seen of it.

One run, that nothing happens to but an upgrade of the release; `test_cluster_faults` has the faults.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psutil
import pytest
from control_plane import ControlPlane, wait_for
from generators.alerts import load_alerts
from generators.board import load_dashboards
from prometheus_server import Prometheus, filled, prometheus
from real_node import OPERATOR, ROOT
from release import CHART, NAME, RECIPE, STAGE, Discovery, Release, watch

pytestmark = pytest.mark.timeout(900)

FROM_OTHERS = re.compile(r"DCGM_|kube_")
LAST_MOMENT = re.compile("visionr1_coldstart_(kept|dropped)")
"""Told before the samples are written, which takes less than a scrape for so few, then the process ends."""
STEPS = 48
"""Enough to see some of them beside the time in which the operator itself is replaced."""
HEADER = ["NAME", "PHASE", "STAGE", "STEP", "REWARD", "LENGTH", "TOK/S/GPU", "AGE"]


@dataclass
class Seen:
    """What was seen of the run from outside."""

    release: Release
    server: Prometheus
    begun: float
    ended: float = 0.0
    header: str = ""
    rows: list[str] = field(default_factory=list)
    reported: list[dict[str, Any]] = field(default_factory=list)
    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    frames: list[str] = field(default_factory=list)
    operator_bytes: int = 0


@pytest.fixture(scope="module")
def seen(platform: ControlPlane, module_namespace: str) -> Iterator[Seen]:
    """The run from `helm install` to its end."""
    release = Release(platform, module_namespace)
    with Discovery(release) as found, prometheus(platform.folder / "prometheus", [found.job]) as server:
        notes = release.install({**RECIPE, "stages": [{**STAGE, "steps": STEPS}]})
        assert "kubectl -n" in notes and "WARNING" not in notes
        seen = Seen(release, server, time.time())
        try:
            release.wait("demo", "stage 1", lambda status: _note(seen, status) == "stage-1" and (status.get("step") or 0) >= 3)
            seen.frames.append(watch(release, "demo"))
            release.helm("upgrade", NAME, str(CHART), "--reuse-values", "--set", "operator.resyncSeconds=2")
            release.wait("demo", "the end", lambda status: _note(seen, status) is None)
        except (AssertionError, TimeoutError) as error:
            raise AssertionError(f"{error}\n{release.log()}\n{release.kubectl('get', 'pods,events')}") from error
        seen.frames.append(watch(release, "demo"))
        time.sleep(2)
        seen.ended = time.time()
        if folder := os.environ.get("VISIONR1_DRAW"):  # the pictures of docs/dashboards
            draw = [sys.executable, str(ROOT / "docs/dashboards/draw.py"), server.url.removeprefix("http://")]
            subprocess.run([*draw, str(seen.begun), str(seen.ended), "--window", "20s", "--out", folder], check=True)
        yield seen


def _note(seen: Seen, status: dict[str, Any]) -> str | None:
    """Keeps what `kubectl` shows now; gives the phase of the recipe."""
    seen.reported.append(status)
    seen.header, row, *_ = seen.release.kubectl("get", "ptst", "demo").splitlines()
    seen.rows.append(row)
    for pod in seen.release.get("pods")["items"]:
        seen.pods[pod["metadata"]["name"]] = pod
    operator = [one.info["memory_info"].rss for one in psutil.process_iter(["cmdline", "memory_info"]) if _is_operator(one)]
    seen.operator_bytes = max([seen.operator_bytes, *operator])
    stage: str | None = None if status.get("phase") == "Succeeded" else status.get("stage", "")
    return stage


def _is_operator(process: psutil.Process) -> bool:
    return any(word.endswith("/ptst-operator") for word in process.info["cmdline"] or [])


def test_every_phase_took_one_attempt_of_its_own_kind(seen: Seen) -> None:
    phases = {one["name"]: one for one in seen.release.status("demo")["phases"]}
    kinds = {name: [attempt["kind"] for attempt in one["attempts"]] for name, one in phases.items()}
    assert kinds == {"coldstart": ["Job"], "sft": ["PyTorchJob"], "stage-1": ["RayJob"], "evaluate": ["Job"]}
    assert all(one["complete"] for one in phases.values())
    assert [record["step"] for record in seen.release.steps("demo") if record["phase"] == "stage-1"] == list(range(1, STEPS + 1))


def test_the_pods_were_real_and_restricted(seen: Seen) -> None:
    roles: dict[str, int] = {}
    for pod in seen.pods.values():
        if "visionr1.io/run" in pod["metadata"]["labels"]:
            role = pod["metadata"]["labels"]["visionr1.io/role"]
            roles[role] = roles.get(role, 0) + 1
            assert pod["spec"]["nodeName"] == "node-1"
            assert role != "sft" or "initContainers" not in pod["spec"], "the training-operator's own is not restricted"
            assert pod["spec"]["automountServiceAccountToken"] is False
            assert not [one for one in pod["spec"]["volumes"] if "projected" in one]
    assert roles == {"coldstart": 1, "sft": 2, "head": 1, "worker": 2, "evaluate": 1}
    printed = seen.release.platform.kubectl("get", "namespace", seen.release.namespace, "-o", "json")
    assert json.loads(printed)["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_kubectl_shows_what_the_step_log_holds(seen: Seen) -> None:
    records = {record["step"]: record for record in seen.release.steps("demo") if record["phase"] == "stage-1"}
    shown = [one for one in seen.reported if one.get("reward") is not None]
    assert len({one["step"] for one in shown}) >= 4
    for one in shown:
        record = records[one["step"]]
        assert one["reward"] == pytest.approx(record["reward_mean"], abs=1e-4)
        assert one["length"] == pytest.approx(record["completion_tokens_mean"], abs=1e-2)
    last = seen.rows[-1].split()
    assert last[:2] == ["demo", "Succeeded"]
    assert seen.header.split() == HEADER
    full = [row.split() for row in seen.rows if len(row.split()) == len(HEADER)]  # a cell that says nothing is blank
    cells = [dict(zip(HEADER, row, strict=True)) for row in full]
    assert len({one["STEP"] for one in cells if one["STAGE"] == "stage-1"}) >= 3
    for printed in cells:
        record = records[int(printed["STEP"])]
        assert float(printed["REWARD"]) == pytest.approx(record["reward_mean"], abs=1e-4)
        assert float(printed["LENGTH"]) == pytest.approx(record["completion_tokens_mean"], abs=1e-2)
        assert float(printed["TOK/S/GPU"]) > 0


def test_an_upgrade_of_the_release_left_the_run_alone(seen: Seen) -> None:
    deployment = seen.release.get("deploy", f"{NAME}-operator")
    assert "--resync=2" in deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    operators = [name for name in seen.pods if name.startswith(f"{NAME}-operator")]
    assert len(operators) == 2, "the operator itself was replaced"


def test_watch_shows_the_run_on_the_cluster(seen: Seen) -> None:
    during, after = seen.frames
    assert "● stage 1" in during and "running" in during and f"/{STEPS}" in during
    assert "✓ evaluation" in after and "done" in after and "no problem seen" in after


def test_prometheus_sees_every_pod_by_the_charts_monitors(seen: Seen) -> None:
    found = seen.server.query("visionr1_host_memory_bytes[1h]", seen.ended)
    roles = sorted((one["metric"]["role"], one["metric"]["pod"].rpartition("-")[0]) for one in found)
    assert [role for role, _ in roles] == ["coldstart", "driver", "sft", "sft", "worker", "worker"]
    assert all(pod.startswith("demo-") for _, pod in roles)
    assert {one["metric"]["namespace"] for one in found} == {seen.release.namespace}
    assert seen.server.query("ray_node_mem_used[1h]", seen.ended), "Ray's own"


def test_every_panel_has_data_the_operators_among_them(seen: Seen) -> None:
    shown = [query.expr for board in load_dashboards() for panel in board.panels for query in panel.queries]
    empty = [expr for expr in shown if not seen.server.has_data(expr, seen.begun, seen.ended)]
    assert [expr for expr in empty if not LAST_MOMENT.search(expr)] == [expr for expr in shown if FROM_OTHERS.search(expr)]


def test_each_border_between_two_phases_shows(seen: Seen) -> None:
    (panel,) = [panel for board in load_dashboards() for panel in board.panels if panel.title == "Stage borders"]
    found = seen.server.query_range(filled(panel.queries[0].expr), seen.begun, seen.ended)
    most = {(one["metric"]["from"], one["metric"]["to"]): max(float(value) for _, value in one["values"]) for one in found}
    chain = ["coldstart", "sft", "stage-1", "evaluate", "done"]
    assert sorted(pair for pair, value in most.items() if value >= 1) == sorted(zip(chain, chain[1:], strict=False))


def test_what_every_alert_asks_for_is_there(seen: Seen) -> None:
    asked = {selector for alert in load_alerts() for selector in re.findall(r"visionr1_\w+(?:{[^}]*})?", alert.expr)}
    asked = {one.replace("@namespace@", seen.release.namespace) for one in asked}
    empty = [one for one in sorted(asked) if not seen.server.query_range(one, seen.begun, seen.ended)]
    assert empty == []


def test_the_scraped_numbers_are_those_of_the_step_log(seen: Seen) -> None:
    records = {record["step"]: record for record in seen.release.steps("demo") if record["phase"] == "stage-1"}
    assert len(seen.server.steps_told('role="driver"', records, seen.ended)) >= 5


def test_the_operator_is_small_and_has_no_errors(seen: Seen) -> None:
    assert 0 < seen.operator_bytes < 150e6
    bugs = seen.server.query('visionr1_ptst_reconcile_errors_total{reason="bug"}[1h]', seen.ended)
    assert bugs and {float(value) for one in bugs for _, value in one["values"]} == {0}


def test_the_operator_s_image_is_slim_and_starts_at_once(seen: Seen) -> None:
    assert OPERATOR.stat().st_size < 250e6
    (pod,) = seen.release.get("pods", "-l", "app.kubernetes.io/component=operator")["items"]
    assert pod["spec"]["containers"][0]["image"] == "visionr1-ptst/operator:0.1.0"
    began = datetime.fromisoformat(pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"])
    first = seen.release.kubectl("logs", pod["metadata"]["name"], "--timestamps").split(" ", 1)[0]
    assert (datetime.fromisoformat(first[:26] + "+00:00") - began).total_seconds() < 10, "where another cluster is at work, too"


def test_helm_test_passes_while_the_operator_starts(seen: Seen) -> None:
    seen.release.kubectl("delete", "pods", "-l", "app.kubernetes.io/component=operator", "--wait=false")
    assert "Phase:          Succeeded" in seen.release.helm("test", NAME)


def test_uninstalling_leaves_nothing_but_the_claim_and_the_data(seen: Seen) -> None:
    """Last: the run is gone afterwards."""
    seen.release.helm("uninstall", NAME)
    kinds = "ptst,pytorchjobs,rayclusters,rayjobs,jobs,pods,deployments,services"
    wait_for("nothing is left", lambda: not seen.release.get(kinds)["items"], 90)
    assert "visionr1-runs" in [one["metadata"]["name"] for one in seen.release.get("pvc")["items"]]
    assert (seen.release.runs / "demo/steps.jsonl").exists()
