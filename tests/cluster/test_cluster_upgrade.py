"""What the chart's Job does to the definition before an upgrade, and the lease of several operators, at a real API server."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chart import CHART, manifests, the
from control_plane import Cluster, helm
from kubernetes import config
from ptst_operator.api import Api, ApiError
from ptst_operator.crd import VERSION_LABEL, definition, to_yaml
from ptst_operator.define import bring_up_to_date
from ptst_operator.leader import LeaseLock, campaign
from ptst_operator.names import APPLY_DEFINITION

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


def chart_of(version: str, folder: Path) -> Path:
    """The chart of another version, whose definition has a field that no other has."""
    made = folder / version
    shutil.copytree(CHART, made)
    other = definition()
    other["metadata"]["labels"][VERSION_LABEL] = version
    fields(other)[field_of(version)] = {"type": "string"}
    (made / "crds/ptstruns.yaml").write_text(to_yaml(other))
    return made


def fields(made: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = made["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    return found


def field_of(version: str) -> str:
    return f"of{version.replace('.', 'x')}"


@pytest.fixture
def by_hand(cluster: Cluster) -> Iterator[Callable[[Path], None]]:
    """The documented command, for any chart; this one's definition is there again afterwards."""

    def apply(chart: Path) -> None:
        cluster.kubectl(*APPLY_DEFINITION.replace("charts/visionr1-ptst", str(chart)).split()[1:])

    yield apply
    apply(CHART)


@pytest.fixture
def install(cluster: Cluster, namespaces: Callable[[], str]) -> Iterator[Callable[[Path], None]]:
    """`helm install` of a chart into a namespace of its own."""
    made = []

    def one(chart: Path) -> None:
        made.append(namespaces())
        helm(cluster, "install", "x", str(chart), "--set=run.enabled=false", f"--namespace={made[-1]}")

    yield one
    for namespace in made:
        helm(cluster, "uninstall", "x", f"--namespace={namespace}", "--ignore-not-found")


def test_another_team_may_install_the_next_chart_after_the_job(
    job: Api, cluster: Cluster, by_hand: Callable[[Path], None], install: Callable[[Path], None], tmp_path: Path
) -> None:
    """Helm 4 applies crds/ at an installation, and is refused what another field manager has written."""
    by_hand(chart_of("0.0.1", tmp_path))
    install(tmp_path / "0.0.1")
    assert field_of("0.0.1") in fields(cluster.get("crd", NAME))
    assert "of version" in bring_up_to_date(job)
    assert field_of("0.0.1") not in fields(cluster.get("crd", NAME))
    install(chart_of("99.0.0", tmp_path))
    assert field_of("99.0.0") in fields(cluster.get("crd", NAME))
    assert "stays as it is" in bring_up_to_date(job)


def test_a_definition_of_another_manager_is_taken_over_by_the_documented_command(
    cluster: Cluster, by_hand: Callable[[Path], None], install: Callable[[Path], None], tmp_path: Path
) -> None:
    chart = chart_of("98.0.0", tmp_path)
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CHART / "crds"))
    with pytest.raises(RuntimeError, match='(?s)failed to install CRD .*conflicts? with "kubectl".*[.]spec[.]versions'):
        install(chart)
    by_hand(chart)
    install(chart)
    install(chart_of("99.0.0", tmp_path))
    assert field_of("99.0.0") in fields(cluster.get("crd", NAME))


def test_an_older_definition_becomes_this_one(job: Api, cluster: Cluster) -> None:
    older = definition()
    older["metadata"]["labels"] = {VERSION_LABEL: "0.0.1"}
    fields(older)["ofYesterday"] = {"type": "string"}
    del fields(older)["gates"]
    cluster.kubectl("label", "crd", NAME, f"{VERSION_LABEL}=0.0.1", "team=vision", "--overwrite")
    before = cluster.get("crd", NAME)
    Api("", config.new_client_from_config(str(cluster.admin))).replace({**before, "spec": {**before["spec"], **older["spec"]}})
    assert "of version" in bring_up_to_date(job)
    there = cluster.get("crd", NAME)
    assert "gates" in fields(there) and "ofYesterday" not in fields(there)
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
