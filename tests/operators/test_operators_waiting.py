"""Why a run waits is in its Progressing condition, in words, for every kind of child; tools read Reconciling and Stalled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ptst_operator.api import ApiError
from ptst_operator.children import raycluster, rayjob
from ptst_operator.look.hindrance import find_hindrance
from ptst_operator.world import Hindrance
from site_of_a_run import Site, condition, without_coldstart

from visionr1.errors import BadInput
from visionr1.storage import StorageError

QUOTA = 'pods "x" is forbidden: exceeded quota: team, requested: requests.cpu=8, used: requests.cpu=1996, limited: 2000'
AT = "1970-01-12T13:46:45Z"  # of Site.now


def event(name: str, reason: str, message: str, kind: str = "Job", at: str = AT) -> dict[str, Any]:
    return {"involvedObject": {"kind": kind, "name": name}, "reason": reason, "message": message, "lastTimestamp": at}


def pod(name: str, created: str = "", **status: Any) -> dict[str, Any]:
    meta = {"name": name, "creationTimestamp": created}
    return {"metadata": meta, "spec": {"nodeName": "gpu-1"}, "status": {"phase": "Pending", **status}}


def waits(reason: str, message: str = "", init: bool = False) -> dict[str, Any]:
    key = "initContainerStatuses" if init else "containerStatuses"
    return {key: [{"name": "visionr1", "state": {"waiting": {"reason": reason, "message": message}}}]}


def unscheduled(reason: str, message: str) -> dict[str, Any]:
    return {"conditions": [{"type": "PodScheduled", "status": "False", "reason": reason, "message": message}]}


def found(pods: list[dict[str, Any]], events: list[dict[str, Any]], reported: str = "") -> Hindrance | None:
    return find_hindrance(("run-sft-0", "pytorchjob-run-sft-0"), "1970-01-12T13:46:40Z", reported, pods, events)


@pytest.mark.parametrize(
    ("message", "reason", "begins"),
    [
        (QUOTA, "QuotaExceeded", "a quota of the namespace has no room for its pods: exceeded quota: team"),
        (
            'Error creating: pods "x" is forbidden: failed quota: team: must specify limits.cpu for: ray',
            "QuotaExceeded",
            "a quota of the namespace takes only pods with requests or limits that these do not have: failed quota: team: must",
        ),
        ('admission webhook "v.io" denied the request: no', "WebhookRefused", "an admission webhook refuses its pods: admission"),
        (
            'Internal error occurred: failed calling webhook "v.io": context deadline exceeded',
            "WebhookUnavailable",
            "an admission webhook that must see its pods does not answer: Internal",
        ),
        (
            'pods "x" is forbidden: violates PodSecurity "restricted:latest": x',
            "PodSecurity",
            "the namespace's PodSecurity level",
        ),
        ('pods "x" is forbidden: no service account', "PodsRefused", "the API server refuses its pods: no service account"),
        ("something else", "PodsRefused", "its pods cannot be made: something else"),
    ],
)
def test_what_refused_the_pods_is_in_words(message: str, reason: str, begins: str) -> None:
    for seen in (found([], [event("run-sft-0", "FailedCreate", message)]), found([], [], reported=message)):
        assert seen is not None and seen.reason == reason and seen.message.startswith(begins), seen


@pytest.mark.parametrize(
    ("status", "reason", "message"),
    [
        (
            unscheduled("Unschedulable", "0/64 nodes are available: 64 Insufficient nvidia.com/gpu."),
            "Unschedulable",
            "no node can take pod p: 0/64 nodes are available: 64 Insufficient nvidia.com/gpu.",
        ),
        (
            unscheduled("SchedulingGated", "Scheduling is blocked due to non-empty scheduling gates"),
            "SchedulingGated",
            "pod p waits until its scheduling gates are removed",
        ),
        (waits("ErrImagePull", "not found"), "ImageUnavailable", "the image of pod p cannot be pulled: not found"),
        (waits("ImagePullBackOff"), "ImageUnavailable", "the image of pod p cannot be pulled: ImagePullBackOff"),
        (
            waits("CreateContainerConfigError", 'secret "s3" not found', init=True),
            "ConfigMissing",
            'a ConfigMap, a Secret or a key that pod p names is missing: secret "s3" not found',
        ),
        (waits("CrashLoopBackOff", "back-off"), "ContainerFails", "a container of pod p ends again and again: back-off"),
    ],
)
def test_why_a_pod_does_not_run_is_in_words(status: dict[str, Any], reason: str, message: str) -> None:
    assert found([pod("p", **status)], []) == Hindrance(reason, message)


@pytest.mark.parametrize(
    "reason",
    [
        *("FailedMount", "FailedAttachVolume", "FailedMapVolume"),
        *("FailedCreatePodSandBox", "NetworkNotReady", "FailedCreatePodContainer"),
    ],
)
def test_what_a_node_reports_of_a_pod_is_reported_while_the_pod_waits(reason: str) -> None:
    event_ = event("run-sft-0-worker-0", reason, "timed out", kind="Pod")
    creating = pod("run-sft-0-worker-0", **waits("ContainerCreating"))
    seen = found([creating], [event_])
    assert seen is not None and seen.message.endswith(": timed out")
    assert found([{**creating, "status": {"phase": "Running"}}], [event_]) is None


def test_a_fault_that_is_over_or_of_others_is_not_reported() -> None:
    refused = event("run-sft-0", "FailedCreate", QUOTA)
    assert found([pod("run-sft-0-worker-0", created="1970-01-12T13:46:50Z")], [refused]) is None, "it has made pods since"
    assert found([pod("run-sft-0-worker-0", created="1970-01-12T13:46:41Z")], [refused]) is not None, "others are missing"
    assert found([], [event("run-sft-0", "FailedCreate", QUOTA, at="1970-01-12T13:46:09Z")]) is None, "an attempt before"
    assert found([], [event("run-sft-01", "FailedCreate", QUOTA)]) is None
    newer = event("run-sft-0-node-0", "FailedCreate", "newer", at="1970-01-12T13:46:59Z")
    assert found([], [refused, newer]) == Hindrance("PodsRefused", "its pods cannot be made: newer")


def test_the_words_of_others_cannot_control_a_terminal() -> None:
    seen = found([], [event("run-sft-0", "FailedCreate", "\x1b[2J" + "x" * 5000)])
    assert seen is not None and seen.message.isprintable() and len(seen.message) < 500


def test_a_ray_cluster_reports_what_kuberay_could_not_make() -> None:
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreateHeadPod", "message": QUOTA}
    meta = {"uid": "u", "ownerReferences": [{"uid": "r", "controller": True}]}
    for status in ({"conditions": [failure]}, {"reason": QUOTA}):
        assert raycluster.read({"metadata": meta, "status": status}).reported == QUOTA
        assert rayjob.read({"metadata": meta, "status": {"rayClusterStatus": status}}).reported == QUOTA
    assert raycluster.read({"metadata": meta, "status": {"conditions": [{**failure, "status": "False"}]}}).reported == ""


def progressing(site: Site) -> tuple[str, str]:
    seen = condition(site.look(), "Progressing")
    return seen.reason, seen.message


@pytest.mark.parametrize("backend", ["PyTorchJob", "TrainJob"])
def test_a_quota_that_refuses_pods_of_sft_is_reported_in_half_a_minute(backend: str, tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart())
    site.cluster.served = {backend}
    site.look(2)
    # The pods of a TrainJob are made by a Job of its JobSet.
    maker = "run-sft-0" if backend == "PyTorchJob" else "run-sft-0-node-0"
    site.cluster.warnings = [event(maker, "FailedCreate", QUOTA)]
    reason, message = progressing(site)
    assert reason == "QuotaExceeded"
    assert message.startswith(
        f"sft: {backend} run-sft-0 does not run yet: a quota of the namespace has no room for its pods: exc"
    )


def test_a_pytorchjob_of_which_some_pods_are_missing_says_so_although_it_runs(tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart())
    site.look(2)
    site.start_child()
    site.look()
    site.cluster.warnings = [event("run-sft-0", "FailedCreatePod", QUOTA)]
    assert progressing(site)[1].startswith("sft runs as PyTorchJob run-sft-0, but not all of its pods do: a quota")
    site.commit("sft", 1, final=False)
    site.look()
    assert progressing(site)[0] == "Running"


@pytest.mark.parametrize("cluster", ["shared", "per-stage"])
def test_a_ray_cluster_without_room_says_so(cluster: str, tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart(), grpo={"workersPerPod": 2, "cluster": cluster})
    site.commit("sft", 3, final=True)
    site.look(3)
    labels = {"ray.io/cluster": "run-ray-0"} if cluster == "shared" else {"visionr1.io/attempt": "run-stage-1-0"}
    worker = pod("w", **unscheduled("Unschedulable", "0/3 nodes are available"))
    site.cluster.waiting_pods = [{**worker, "metadata": {"name": "w", "labels": labels}}]
    reason, message = progressing(site)
    what = "waits for RayCluster run-ray-0" if cluster == "shared" else "RayJob run-stage-1-0 does not run yet"
    assert reason == "Unschedulable" and message.endswith(f"{what}: no node can take pod w: 0/3 nodes are available")


def test_a_queue_that_has_no_room_says_why(tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart())
    site.look(2)
    ((kind, child),) = site.cluster.queueable()
    site.cluster.take_back(kind, child)
    site.cluster.warnings = [
        event("pytorchjob-run-sft-0-1a2b3", "Pending", "insufficient quota for nvidia.com/gpu", kind="Workload"),
    ]
    reason, message = progressing(site)
    assert reason == "WaitsForQueue"
    assert message.endswith("until its queue lets it in: its queue has no room for it: insufficient quota for nvidia.com/gpu")


def test_a_role_that_may_not_list_events_keeps_no_run_from_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(tmp_path, **without_coldstart())
    listed = site.cluster.list

    def refused(kind: str, selector: str = "", fields: str = "") -> dict[str, Any]:
        if kind == "Event":
            raise ApiError(403, "events is forbidden")
        return listed(kind, selector)

    monkeypatch.setattr(site.cluster, "list", refused)
    assert site.look(3).phase == "Pending"
    site.start_child()
    assert site.look(2).phase == "Running"


def test_a_role_that_may_not_read_the_namespace_keeps_no_run_from_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path, **without_coldstart())

    def refused() -> dict[str, str]:
        raise ApiError(403, "namespaces is forbidden")

    monkeypatch.setattr(site.cluster, "namespace_labels", refused)
    assert site.look(3).phase == "Pending"
    site.start_child()
    status = site.look(2)
    assert status.phase == "Running"
    assert "PodSecurity" not in {one.type for one in status.conditions}, "it is not known"


def judged(site: Site) -> tuple[str, str]:
    status = site.look()
    return condition(status, "Reconciling").status, condition(status, "Stalled").status


def test_tools_see_a_run_reconcile_until_it_trains_and_stall_when_it_cannot_go_on(tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart())
    assert judged(site) == ("True", "False"), "it waits for its pods"
    site.look()
    site.start_child()
    assert judged(site) == ("False", "False"), "it trains, for days"
    site.cluster.change_spec(suspend=True)
    assert judged(site) == ("True", "False"), "it stops"
    site.cluster.collect()
    site.look()
    assert judged(site) == ("False", "False")
    site.cluster.change_spec(suspend=False, retry={"maxAttempts": 1})
    site.look(2)
    site.start_child()
    site.end_child(64)
    site.look()
    assert judged(site) == ("False", "True")
    assert not [one for one in site.cluster.events if one.reason in ("Reconciling", "Stalled")]


def test_a_recipe_that_is_refused_stalls_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(tmp_path, **without_coldstart())

    def refuse(*_: object) -> None:
        raise BadInput("seed: a mistake")

    with monkeypatch.context() as patched:
        patched.setattr("ptst_operator.intake.adopt_recipe", lambda *_, **__: refuse())
        assert judged(site) == ("False", "True")
    site.cluster.change_spec()
    assert judged(site) == ("True", "False"), "it was corrected"


def test_a_run_directory_that_cannot_be_read_never_makes_a_run_reconcile_and_stall(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path, **without_coldstart())

    def refuse(*_: object, **__: object) -> None:
        raise BadInput("seed: a mistake")

    def unreachable(url: str) -> Any:
        raise StorageError(f"{url}: no answer; check the endpoint")

    with monkeypatch.context() as patched:
        patched.setattr("ptst_operator.intake.adopt_recipe", refuse)
        assert judged(site) == ("False", "True")
        site.operator.store = unreachable
        with pytest.raises(StorageError):
            site.look()
        status = site.status
        assert (condition(status, "Reconciling").status, condition(status, "Stalled").status) == ("True", "False")
        site.replace_operator()
        assert judged(site) == ("False", "True"), "it is still refused"
