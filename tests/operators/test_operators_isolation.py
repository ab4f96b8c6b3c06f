"""Runs of one namespace are kept apart: each has a policy of its own before it has pods, and none opens its Ray cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ptst_operator.api import ApiError, NameTaken
from ptst_operator.children import isolation
from ptst_operator.rules import OWN_LABELS, RAY_AUTH
from site_of_a_run import Site, condition, without_coldstart
from test_operators_children import owner

POLICY = ("NetworkPolicy", "run-pods")


def isolating(folder: Path) -> Site:
    site = Site(folder, **without_coldstart())
    site.operator.isolates = True
    return site


def test_the_policy_is_there_before_the_first_pod(tmp_path: Path) -> None:
    site = isolating(tmp_path)
    site.look(3)
    assert site.cluster.made == [POLICY, ("PyTorchJob", "run-sft-0")]


def test_no_pod_is_made_if_the_policy_cannot_be(tmp_path: Path) -> None:
    site = isolating(tmp_path)

    def refuse(call: str) -> None:
        if call == "apply":
            raise ApiError(403, "networkpolicies is forbidden")

    site.cluster.before_call = refuse
    for _ in range(3):
        with pytest.raises(ApiError, match="forbidden"):
            site.look()
    assert site.cluster.made == []
    assert "NetworkPolicy run-pods: networkpolicies is forbidden" in condition(site.status, "Progressing").message


def test_a_run_that_an_older_operator_began_gets_its_policy_at_once(tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart())
    site.look(2)
    site.start_child()
    site.look()
    assert site.cluster.made == [("PyTorchJob", "run-sft-0")]
    site.operator.isolates = True
    site.look()
    assert site.cluster.made[1:] == [POLICY]


def test_somebody_s_policy_of_that_name_is_not_replaced(tmp_path: Path) -> None:
    site = isolating(tmp_path)
    theirs: dict[str, Any] = {"kind": "NetworkPolicy", "metadata": {"name": "run-pods", "uid": "theirs"}}
    site.cluster.objects[POLICY] = theirs
    for _ in range(2):
        with pytest.raises(NameTaken, match="is not of this run"):
            site.look()
    assert site.cluster.objects[POLICY] == theirs and site.cluster.made == []


def test_only_pods_of_the_same_run_are_let_in() -> None:
    made = isolation.build(owner())
    selector = {"matchLabels": {"visionr1.io/run": owner().name}}
    assert made["spec"] == {
        "podSelector": selector,
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"podSelector": selector}]}],
    }


@pytest.mark.parametrize("role", ["pods", "grpo"])
@pytest.mark.parametrize(
    ("key", "value"), [("env", "disabled"), ("envValueFrom", {"configMapKeyRef": {"name": "theirs", "key": "mode"}})]
)
@pytest.mark.parametrize("name", RAY_AUTH)
def test_a_run_that_takes_ray_s_token_away_is_refused_in_one_line(
    name: str, key: str, value: Any, role: str, tmp_path: Path
) -> None:
    pods = {key: {name: value}}
    site = Site(tmp_path, **without_coldstart())
    spec = site.cluster.run["spec"]
    place = "pods" if role == "pods" else "grpo.head"
    site.cluster.change_spec(
        **({"pods": {**spec["pods"], **pods}} if role == "pods" else {"grpo": {**spec.get("grpo", {}), "head": pods}})
    )
    reported = condition(site.look(), "RecipeValid")
    assert reported.message == f"spec.{place}.{key}: {name} is set by KubeRay, so that Ray asks for a token: remove it"
    assert site.cluster.made == []


@pytest.mark.parametrize("prefix", OWN_LABELS)
def test_pods_cannot_claim_to_be_another_run_s(prefix: str, tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart(), grpo={"workersPerPod": 2, "workers": {"labels": {f"{prefix}x": "theirs"}}})
    why = "is set by the operator or by Kubernetes, and tells which run a pod belongs to: remove it"
    line = f"spec.grpo.workers.labels: {prefix}x {why}"
    assert condition(site.look(), "RecipeValid").message == line
    assert site.cluster.made == []


def test_a_run_elsewhere_cannot_name_a_path_on_the_operator_s_volume(tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart())
    site.operator.home = "vision"
    reported = condition(site.look(), "RecipeValid")
    assert reported.message == (
        f"spec.storage.url: {tmp_path}/run is a path, but the operator is in another namespace (vision) and cannot mount a "
        "volume of this one; create the run with s3://bucket/prefix"
    )
    site.cluster.change_spec(suspend=True)
    assert condition(site.look(), "RecipeValid").status == "False"
    assert site.cluster.made == [] and not (tmp_path / "run").exists()


@pytest.mark.parametrize("home", ["default", ""], ids=["the operator's namespace", "an operator outside the cluster"])
def test_a_run_beside_the_operator_may_be_on_a_path(home: str, tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart())
    site.operator.home = home
    assert condition(site.look(), "RecipeValid").status == "True"


def test_a_namespace_without_limits_is_named_once_in_an_event_and_in_a_condition(tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart())
    assert condition(site.look(2), "PodSecurity").status == "True"
    assert not [event for event in site.cluster.events if event.reason == "NotRestricted"]
    site.cluster.pod_security = "baseline"
    reported = condition(site.look(3), "PodSecurity")
    assert (reported.status, reported.reason) == ("False", "NotRestricted")
    assert "namespace default does not enforce the restricted Pod Security level" in reported.message
    assert reported.message.endswith("kubectl label namespace default pod-security.kubernetes.io/enforce=restricted")
    (event,) = [event for event in site.cluster.events if event.reason == "NotRestricted"]
    assert (event.kind, event.message) == ("Warning", reported.message)
    site.cluster.pod_security = "restricted"
    assert condition(site.look(), "PodSecurity").status == "True"


def test_a_run_with_a_wrong_recipe_gets_the_warning_when_it_is_corrected(tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart(reward={"function": "accuracy"}))
    site.cluster.pod_security = ""
    assert "PodSecurity" not in {one.type for one in site.look().conditions}
    site.cluster.change_spec(**without_coldstart())
    assert condition(site.look(), "PodSecurity").status == "False"
    assert [event.reason for event in site.cluster.events].count("NotRestricted") == 1
