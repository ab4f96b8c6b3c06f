"""The Job that brings the definition of a cluster to this version before an upgrade."""

from __future__ import annotations

from typing import Any

import pytest
from ptst_operator import define
from ptst_operator.api import Api, ApiError
from ptst_operator.crd import VERSION_LABEL, definition

from visionr1.errors import EXIT_BAD_INPUT

THIS = definition()["metadata"]["labels"][VERSION_LABEL]


class Cluster:
    """An API server with one definition, or none."""

    def __init__(self, version: str | None) -> None:
        self.there: dict[str, Any] | None = None
        self.refuses: ApiError | None = None
        if version is not None:
            meta = {"name": "ptstruns.visionr1.io", "resourceVersion": "7", "labels": {VERSION_LABEL: version, "team": "vision"}}
            self.there = {"metadata": meta, "spec": {"versions": []}, "status": {}}

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        assert (kind, name) == ("CustomResourceDefinition", "ptstruns.visionr1.io")
        return self.there

    def apply(self, manifest: dict[str, Any], manager: str) -> None:
        if self.refuses:
            raise self.refuses
        assert (manager, manifest["metadata"]["resourceVersion"]) == ("helm", "7")
        self.there = manifest


@pytest.mark.parametrize("version", ["0.0.9", THIS], ids=["older", "the same, changed by hand"])
def test_an_older_definition_is_replaced_and_nothing_of_others_is_written(version: str) -> None:
    cluster = Cluster(version)
    assert define.bring_up_to_date(cluster).endswith(f"is of version {THIS} now")  # type: ignore[arg-type]
    assert cluster.there is not None
    wanted = definition()
    assert cluster.there["spec"] == wanted["spec"]
    assert cluster.there["metadata"] == {**wanted["metadata"], "resourceVersion": "7"}


def test_a_newer_definition_stays() -> None:
    """An older release beside a newer one is upgraded, too."""
    cluster = Cluster("0.10.0")
    assert "stays as it is" in define.bring_up_to_date(cluster)  # type: ignore[arg-type]
    assert cluster.there is not None and cluster.there["spec"]["versions"] == []


def test_a_cluster_without_the_definition_gets_it_from_what_installs_the_chart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argo CD runs the Job before its first sync: if it failed, there would never be one."""
    cluster = Cluster(None)
    monkeypatch.setattr(Api, "connected", lambda namespace: cluster)
    assert define.main() == 0 and cluster.there is None


def test_what_the_api_server_refuses_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = Cluster("0.0.9")
    cluster.refuses = ApiError(403, "forbidden")
    monkeypatch.setattr(Api, "connected", lambda namespace: cluster)
    assert define.main() == 1
    assert capsys.readouterr().err.startswith(
        "the definition could not be changed: forbidden; do it by hand: kubectl apply --server-side --force"
    )


def test_a_pod_without_its_token_ends_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("kubernetes.config.KUBE_CONFIG_DEFAULT_LOCATION", "/nowhere/config")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert define.main() == EXIT_BAD_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("no way to the API server: ") and "automountServiceAccountToken: true" in line
