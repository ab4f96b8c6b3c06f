"""What the chart's Job does to the definition before an upgrade, and the lease of several operators, at a real API server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from chart import manifests, the
from control_plane import Cluster
from kubernetes import config
from ptst_operator.api import Api, ApiError
from ptst_operator.crd import VERSION_LABEL, definition
from ptst_operator.define import bring_up_to_date
from ptst_operator.leader import LeaseLock, campaign

NAME = "ptstruns.visionr1.io"


def api_of(cluster: Cluster, within: str, account: str = "", namespace: str = "") -> Api:
    """As the administrator, or with the rights of a service account."""
    transport = config.new_client_from_config(str(cluster.admin))
    if account:
        transport.set_default_header("Impersonate-User", f"system:serviceaccount:{namespace}:{account}")
    return Api(within, transport)


@pytest.fixture
def job(cluster: Cluster, namespace: str) -> Iterator[Api]:
    """The API server as the chart's Job has it: with the rights of its hooks and no others."""
    made = manifests(namespace=namespace)
    rights = [
        one for one in made if one["metadata"]["labels"]["app.kubernetes.io/component"] == "definition" and one["kind"] != "Job"
    ]
    for one in rights:
        if one["kind"] == "ServiceAccount":
            one["metadata"]["namespace"] = namespace
    cluster.apply(*rights)
    yield api_of(cluster, "", the(made, "Job")["spec"]["template"]["spec"]["serviceAccountName"], namespace)
    for kind in ("ClusterRoleBinding", "ClusterRole"):
        cluster.kubectl("delete", kind, the(rights, kind)["metadata"]["name"])


def test_an_older_definition_becomes_this_one(job: Api, cluster: Cluster) -> None:
    older = definition()
    older["metadata"]["labels"] = {VERSION_LABEL: "0.0.1"}
    spec: dict[str, Any] = older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    spec["ofYesterday"] = {"type": "string"}
    del spec["gates"]
    cluster.kubectl("label", "crd", NAME, f"{VERSION_LABEL}=0.0.1", "team=vision", "--overwrite")
    before = cluster.get("crd", NAME)
    Api("", config.new_client_from_config(str(cluster.admin))).replace({**before, "spec": {**before["spec"], **older["spec"]}})
    assert "of version" in bring_up_to_date(job)
    there = cluster.get("crd", NAME)
    fields = there["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    assert "gates" in fields and "ofYesterday" not in fields
    assert there["metadata"]["labels"]["team"] == "vision" and there["metadata"]["labels"][VERSION_LABEL] != "0.0.1"


def test_the_job_may_do_nothing_else(job: Api, namespace: str) -> None:
    for kind, within in (("CustomResourceDefinition", ""), ("PTSTRun", ""), ("Pod", namespace)):
        with pytest.raises(ApiError) as refused:
            job.within(within).list(kind)
        assert refused.value.status == 403
    with pytest.raises(ApiError) as refused:
        job.get("CustomResourceDefinition", "others.example.com")
    assert refused.value.status == 403


def test_a_lease_goes_from_one_pod_to_the_next(cluster: Cluster, namespace: str) -> None:
    """With the rights that the chart gives to an operator of two pods."""
    made = manifests({"operator": {"replicas": 2}}, namespace=namespace)
    rights = [one for one in made if one["kind"] in ("Role", "RoleBinding", "ServiceAccount") and "helm.sh/hook" not in str(one)]
    for one in rights:
        one["metadata"]["namespace"] = namespace
    cluster.apply(*rights)
    first, second = (LeaseLock(api_of(cluster, namespace, "ptst-operator", namespace), "ptst-operator", pod) for pod in "ab")
    works = {pod: threading.Event() for pod in "ab"}
    campaign(first, works["a"].set, lambda: None)
    assert works["a"].wait(10)
    campaign(second, works["b"].set, lambda: None)
    assert not works["b"].wait(3)
    held = cluster.get("-n", namespace, "lease", "ptst-operator")["spec"]
    assert (held["holderIdentity"], held["leaseDurationSeconds"]) == ("a", 15)
    first.release()
    assert works["b"].wait(5)
    assert cluster.get("-n", namespace, "lease", "ptst-operator")["spec"]["leaseTransitions"] == 1
    second.release()
