"""The chart below another one, under any release's name, twice in one cluster, and with other people's objects."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart import CHART, Manifest, Values, manifests, pod_templates, refusal, the

LONG = "a" * 53
"""Helm takes no longer name of a release."""
EVERYTHING: Values = {
    "operator": {"replicas": 2},
    "doctor": {"enabled": True},
    "monitoring": {name: {"enabled": True} for name in ("podMonitor", "rules", "dashboards")},
}
DOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_TEXTS = ("labels", "matchLabels", "annotations", "nodeSelector")


def no_texts(node: Any, path: str = "") -> Iterator[str]:
    """Paths of names and labels that are numbers or switches for a YAML parser."""
    if isinstance(node, dict):
        for key, below in node.items():
            here = f"{path}.{key}"
            if key in _TEXTS and isinstance(below, dict):
                yield from (f"{here}.{name}" for name, value in below.items() if not isinstance(value, str))
            elif key in ("name", "namespace", "serviceAccountName", "value") and not isinstance(below, str | dict):
                yield here
            yield from no_texts(below, here)
    elif isinstance(node, list):
        for number, below in enumerate(node):
            yield from no_texts(below, f"{path}[{number}]")


@pytest.mark.parametrize(
    ("release", "namespace"),
    [
        ("123", "77"),
        ("1e3", "0x1"),
        ("true", "null"),
        ("no", "1.5"),
        (LONG, "b" * 63),
        ("9" * 53, "n"),
        ("team.vision", "n"),
        ("a" * 51 + ".b", "n"),
    ],
)
def test_any_release_has_names_that_kubernetes_takes(release: str, namespace: str) -> None:
    made = manifests(EVERYTHING, release=release, namespace=namespace)
    assert list(no_texts(made)) == []
    names = [(one["kind"], one["metadata"]["name"]) for one in made]
    assert len(set(names)) == len(names)
    for kind, name in names:
        longest = 63 if kind in ("Deployment", "Service", "Job", "Pod") else 253  # those become labels or host names
        assert len(name) <= longest and re.fullmatch(DOMAIN, name), f"{kind} {name}"
    service = the(made, "Service")["metadata"]["name"]
    assert re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", service)
    assert {len(value) <= 63 for one in made for value in one["metadata"]["labels"].values()} == {True}


def test_two_long_names_that_begin_alike_stay_two() -> None:
    first, second = (
        {(one["kind"], one["metadata"]["name"]) for one in manifests(EVERYTHING, release="r" * 52 + last)} for last in "ab"
    )
    assert first & second == {("PTSTRun", "vision-r1"), ("PersistentVolumeClaim", "visionr1-runs")}, "their names are values"
    cut = {
        the(manifests({"fullnameOverride": "r" * 60 + last}, release="ptst"), "Deployment")["metadata"]["name"] for last in "ab"
    }
    assert len(cut) == 2


def test_a_version_of_any_form_is_in_labels_and_tags_that_kubernetes_takes(tmp_path: Path) -> None:
    shutil.copytree(CHART, tmp_path / "ours")
    about = yaml.safe_load((tmp_path / "ours/Chart.yaml").read_text())
    about |= {"version": f"0.1.0-main.20261130.{'0123abcd' * 5}+build.7", "appVersion": "0.1.0+g0123456"}
    (tmp_path / "ours/Chart.yaml").write_text(yaml.safe_dump(about))
    made = manifests(EVERYTHING, chart=tmp_path / "ours")
    values = {value for one in made for value in one["metadata"]["labels"].values()}
    assert all(re.fullmatch("[a-zA-Z0-9]([-_.a-zA-Z0-9]{0,61}[a-zA-Z0-9])?", one) for one in values), values
    (container,) = the(made, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["image"].endswith("/operator:0.1.0_g0123456")


@pytest.mark.parametrize("enabled", [True, False])
def test_an_umbrella_chart_switches_it_on_and_off(enabled: bool, tmp_path: Path) -> None:
    shutil.copytree(CHART, tmp_path / "charts/visionr1-ptst")
    parent = {
        "apiVersion": "v2",
        "name": "ai-platform",
        "version": "0.0.1",
        "dependencies": [{"name": "visionr1-ptst", "version": "0.1.0", "condition": "visionr1-ptst.enabled"}],
    }
    (tmp_path / "Chart.yaml").write_text(yaml.safe_dump(parent))
    values = {"global": {"imageRegistry": "registry.corp.example"}, "visionr1-ptst": {"enabled": enabled}}
    made = manifests(values, release="platform", chart=tmp_path)
    assert bool(made) == enabled
    if enabled:
        (container,) = the(made, "Deployment")["spec"]["template"]["spec"]["containers"]
        assert container["image"] == "registry.corp.example/visionr1-ptst/operator:0.1.0"
        assert the(made, "PTSTRun")["spec"]["pods"]["image"] == "registry.corp.example/visionr1-ptst/trainer:0.1.0"


def below(tmp_path: Path, ours: Values, *aliases: str) -> list[Manifest]:
    """A parent chart with these values for ours in its own values.yaml, where null takes no default away; once for each alias."""
    shutil.copytree(CHART, tmp_path / "charts/visionr1-ptst")
    one = {"name": "visionr1-ptst", "version": "0.1.0"}
    dependencies = [{**one, "alias": alias} for alias in aliases] or [one]
    parent = {"apiVersion": "v2", "name": "ai-platform", "version": "0.0.1", "dependencies": dependencies}
    (tmp_path / "Chart.yaml").write_text(yaml.safe_dump(parent))
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(dict.fromkeys(aliases or ["visionr1-ptst"], ours)))
    return manifests({}, release="platform", chart=tmp_path)


@pytest.mark.parametrize("recipe", [{}, {"recipe": None}])
def test_a_parent_chart_may_name_a_config_map_with_the_recipe(recipe: Values, tmp_path: Path) -> None:
    spec = the(below(tmp_path, {"run": {**recipe, "recipeFrom": {"configMap": "recipes"}}}), "PTSTRun")["spec"]
    assert "recipe" not in spec and spec["recipeFrom"] == {"configMap": "recipes"}


def test_a_parent_chart_may_have_it_twice_by_an_alias(tmp_path: Path) -> None:
    values: Values = {**EVERYTHING, "claim": {"create": False}, "run": {"enabled": False}}
    made = below(tmp_path, values, "vision", "Team_B")
    names = [(one["kind"], one["metadata"]["name"]) for one in made]
    assert len(set(names)) == len(names), "Helm would install the second over the first"
    assert [name for kind, name in names if kind == "Service"] == ["platform-team-b-operator", "platform-vision-operator"]
    selectors = [one["spec"]["selector"] for one in made if one["kind"] == "Service"]
    pods = [one["metadata"]["labels"] for name, one in pod_templates(made).items() if name.startswith("Deployment")]
    assert [[selector.items() <= labels.items() for labels in pods] for selector in selectors] == [[True, False], [False, True]]


def test_a_run_on_s3_below_a_parent_chart_has_no_claim(tmp_path: Path) -> None:
    s3 = {"claim": {"name": "", "create": False}, "run": {"storage": {"url": "s3://bucket/run", "claim": None}}}
    assert the(below(tmp_path, s3), "PTSTRun")["spec"]["storage"] == {"url": "s3://bucket/run"}
    own = {"name": "data", "mountPath": "/data"}
    made = manifests({"run": {"storage": {"url": "s3://bucket/run", "claim": own}}})
    assert the(made, "PTSTRun")["spec"]["storage"]["claim"] == own, "a claim that was asked for"
    made = manifests({"run": {"storage": {"url": "s3://bucket/run"}}})
    claim = the(made, "PersistentVolumeClaim")["metadata"]["name"]
    assert the(made, "PTSTRun")["spec"]["storage"]["claim"]["name"] == claim, "data and models may be on the release's own claim"


def test_another_preset_below_a_parent_chart_has_its_own_stages(tmp_path: Path) -> None:
    demo = the(below(tmp_path, {"run": {"recipe": {"preset": "demo", "stages": None}}}), "PTSTRun")
    assert demo["spec"]["recipe"] == {"preset": "demo"}
    assert len(the(manifests({}), "PTSTRun")["spec"]["recipe"]["stages"]) == 2
    stages = [{"max_completion_tokens": 64, "group_size": 4}]
    own = the(manifests({"run": {"recipe": {"preset": "demo", "stages": stages}}}), "PTSTRun")
    assert own["spec"]["recipe"] == {"preset": "demo", "stages": stages}


def test_an_image_with_a_registry_keeps_it() -> None:
    values = {
        "global": {"imageRegistry": "registry.corp.example/"},
        "operator": {"image": {"repository": "other.example:5000/operator"}},
        "run": {"grpo": {"head": {"image": "visionr1-ptst/trainer:0.1.0-cpu"}}, "pods": {"image": "localhost/trainer:0.1.0"}},
        "doctor": {"enabled": True},
    }
    values["run"]["grpo"]["workers"] = {"image": "visionr1-ptst/trainer:0.1.0"}  # type: ignore[index]
    made = manifests(values)
    images = {pod["spec"]["containers"][0]["image"] for pod in pod_templates(made).values()}
    assert images == {"other.example:5000/operator:0.1.0", "localhost/trainer:0.1.0"}
    grpo = the(made, "PTSTRun")["spec"]["grpo"]
    assert grpo["head"]["image"] == "registry.corp.example/visionr1-ptst/trainer:0.1.0-cpu"


@pytest.mark.parametrize(("own", "image"), [("", "team/visionr1-ptst/trainer:0.1.0"), ("mine:1", "team/mine:1")])
def test_the_doctor_s_image_has_the_registry_once(own: str, image: str) -> None:
    made = manifests({"global": {"imageRegistry": "team"}, "doctor": {"enabled": True, "image": own}})
    images = [pod["spec"]["containers"][0]["image"] for name, pod in pod_templates(made).items() if "doctor" in name]
    assert images == [image]


def test_the_images_that_a_run_s_pods_begin_with_and_mount_have_the_registry_too() -> None:
    role = {
        "initContainers": [{"name": "fetch", "image": "team/fetch:1"}, {"name": "other", "image": "quay.io/other:1"}],
        "volumes": [{"name": "m", "image": {"reference": "team/model:1"}}, {"name": "d", "emptyDir": {}}],
    }
    made = the(manifests({"global": {"imageRegistry": "r.example"}, "run": {"pods": role, "sft": {"pods": role}}}), "PTSTRun")
    for pods in (made["spec"]["pods"], made["spec"]["sft"]["pods"]):
        assert [one["image"] for one in pods["initContainers"]] == ["r.example/team/fetch:1", "quay.io/other:1"]
        assert pods["volumes"] == [{"name": "m", "image": {"reference": "r.example/team/model:1"}}, {"name": "d", "emptyDir": {}}]


def test_pull_secrets_of_an_umbrella_chart_are_those_of_all_pods() -> None:
    own = {"imagePullSecrets": [{"name": "own"}]}
    values: Values = {
        "global": {"imagePullSecrets": ["registry", {"name": "own"}]},
        "doctor": {"enabled": True},
        "run": {"sft": {"pods": own}},
        "operator": own,
    }
    made = manifests(values)
    spec = the(made, "PTSTRun")["spec"]
    both = [{"name": "own"}, {"name": "registry"}]
    found = {name.split("-")[1]: pod["spec"]["imagePullSecrets"] for name, pod in pod_templates(made).items()}
    doctor = found.pop("doctor")
    assert doctor == spec["pods"]["imagePullSecrets"] == [{"name": "registry"}, {"name": "own"}]
    assert found == dict.fromkeys(("operator", "test", "upgrade"), both)
    assert spec["sft"]["pods"]["imagePullSecrets"] == both, "a role's own list would take the place of that of all pods"
    assert "imagePullSecrets" not in json.dumps(manifests({"doctor": {"enabled": True}}))


def boards(release: str, namespace: str) -> dict[str, Manifest]:
    made = manifests({"monitoring": {"dashboards": {"enabled": True}}}, release=release, namespace=namespace)
    return {file: json.loads(text) for one in made if one["kind"] == "ConfigMap" for file, text in one["data"].items()}


def test_two_releases_share_one_grafana() -> None:
    """Its sidecar writes all files into one folder; a second file of a name, uid or title replaces the first."""
    releases = [boards("ptst", "a"), boards("ptst", "b"), boards("other", "a"), boards(LONG, "a"), boards(LONG[:-1] + "b", "a")]
    releases += [boards("b-c", "a"), boards("c", "a-b")]
    for key in ("uid", "title"):
        values = [board[key] for made in releases for board in made.values()]
        assert len(set(values)) == len(values) == 28
        assert key == "title" or {len(value) <= 40 for value in values} == {True}, "Grafana's limit"
    assert len({file for made in releases for file in made}) == 28


def test_names_can_be_chosen() -> None:
    def names(values: Values) -> set[str]:
        return {one["metadata"]["name"] for one in manifests(values) if one["kind"] in ("Deployment", "Service", "Role")}

    assert names({}) == {"ptst-operator"}
    assert names({"nameOverride": "vision"}) == {"ptst-vision-operator"}
    assert names({"fullnameOverride": "team-vision", "nameOverride": "vision"}) == {"team-vision-operator"}
    made = manifests({"nameOverride": "vision"})
    selector = the(made, "Deployment")["spec"]["selector"]["matchLabels"]
    assert selector["app.kubernetes.io/name"] == "vision"
    assert selector.items() <= the(made, "Deployment")["spec"]["template"]["metadata"]["labels"].items()
    assert the(made, "Service")["spec"]["selector"] == selector


NO_NAMES: dict[str, tuple[Values, str]] = {
    "capitals": (
        {"fullnameOverride": "My_App"},
        'fullnameOverride is "My_App": give at most 253 lower-case letters, digits and -',
    ),
    "a dot at the end": ({"fullnameOverride": "vision."}, 'fullnameOverride is "vision."'),
    "a label of 64": (
        {"nameOverride": "n" * 64},
        "give at most 63 lower-case letters, digits and -, with a letter or digit first",
    ),
    "a run without a name": ({"run": {"name": ""}}, 'run.name is "": give at most 33 lower-case letters'),
    "a run that is none": ({"run": {"name": "Vision_R1"}}, 'run.name is "Vision_R1": give at most 33 lower-case letters'),
    "a run that begins with a digit": ({"run": {"name": "7b"}}, "and -, with a letter first"),
}


@pytest.mark.parametrize(("values", "line"), NO_NAMES.values(), ids=NO_NAMES.keys())
def test_a_name_that_kubernetes_refuses_is_refused_in_one_line(values: Values, line: str) -> None:
    assert line in refusal(values)


NO_TEXTS: dict[str, tuple[Values, str]] = {
    "a label with a space": ({"commonLabels": {"team": "a b"}}, "/commonLabels/team"),
    "a label of 70": ({"podLabels": {"team": "y" * 70}}, "/podLabels/team"),
    "a label's name": ({"operator": {"nodeSelector": {"a b": "c"}}}, "/operator/nodeSelector"),
    "a label of the run": ({"run": {"sft": {"pods": {"labels": {"team": "a b"}}}}}, "/run/sft/pods/labels/team"),
    "a variable": ({"operator": {"env": {"my key": "1"}}}, "/operator/env"),
    "a variable from elsewhere": ({"operator": {"envValueFrom": {"my key": {"fieldRef": {}}}}}, "/operator/envValueFrom"),
    "a variable of the run": ({"run": {"pods": {"env": {"my key": "1"}}}}, "/run/pods/env"),
    "no namespace": ({"operator": {"watchNamespaces": [""]}}, "/operator/watchNamespaces/0"),
    "a namespace with capitals": ({"operator": {"watchNamespaces": ["Team A"]}}, "/operator/watchNamespaces/0"),
    "no port": ({"networkPolicy": {"operatorEgressPorts": [0]}}, "/networkPolicy/operatorEgressPorts/0"),
    "an address": ({"networkPolicy": {"operatorEgressBlocks": ["10.0.0.5"]}}, "/networkPolicy/operatorEgressBlocks/0"),
}


@pytest.mark.parametrize(("values", "place"), NO_TEXTS.values(), ids=NO_TEXTS.keys())
def test_what_kubernetes_refuses_is_refused_at_its_place(values: Values, place: str) -> None:
    with pytest.raises(AssertionError, match=f"- at '{place}'"):
        manifests(values)


RECOMMENDED = {f"app.kubernetes.io/{one}" for one in ("name", "instance", "version", "component", "part-of", "managed-by")}


def test_every_object_has_the_recommended_labels_and_those_of_the_user() -> None:
    made = manifests({**EVERYTHING, "commonLabels": {"team": "vision", "app.kubernetes.io/part-of": "platform"}})
    for one in made:
        labels = one["metadata"]["labels"]
        assert labels.keys() >= RECOMMENDED and labels["team"] == "vision", one["kind"]
        assert labels["app.kubernetes.io/part-of"] == "platform"
    run = the(made, "PTSTRun")
    assert run["spec"]["pods"]["labels"] == {"team": "vision"}, "the operator sets the others"


def test_labels_and_annotations_are_on_every_pod() -> None:
    values = {
        **EVERYTHING,
        "podLabels": {"sidecar.istio.io/inject": "true", "cost": "research"},
        "podAnnotations": {"proxy.istio.io/config": "holdApplicationUntilProxyStarts: true"},
        "run": {"pods": {"labels": {"cost": "vision"}}},
    }
    made = manifests(values)
    pods = pod_templates(made)
    assert {name.split()[0] for name in pods} == {"Deployment", "Job", "Pod"} and len(pods) == 4
    for pod in pods.values():
        assert pod["metadata"]["labels"]["sidecar.istio.io/inject"] == "true"
        assert pod["metadata"]["labels"]["cost"] == "research"
        assert values["podAnnotations"].items() <= pod["metadata"]["annotations"].items()
    run = the(made, "PTSTRun")["spec"]["pods"]
    assert run["labels"] == {"cost": "vision", "sidecar.istio.io/inject": "true"}, "the run's own value is stronger"
    assert run["annotations"] == values["podAnnotations"]
    own = manifests({"operator": {"podLabels": {"azure.workload.identity/use": "true"}, "podAnnotations": {"a": "b"}}})
    meta = the(own, "Deployment")["spec"]["template"]["metadata"]
    assert meta["labels"]["azure.workload.identity/use"] == "true" and meta["annotations"] == {"a": "b"}


def test_an_empty_text_is_a_value_too() -> None:
    values: Values = {
        "commonLabels": {"team": "x"},
        "podLabels": {"cost": "x"},
        "podAnnotations": {"a": "all"},
        "operator": {"podAnnotations": {"a": ""}, "podLabels": {"cost": ""}},
        "run": {"pods": {"labels": {"team": ""}, "annotations": {"a": ""}}},
    }
    made = manifests(values)
    meta = the(made, "Deployment")["spec"]["template"]["metadata"]
    assert meta["annotations"] == {"a": ""} and meta["labels"]["cost"] == ""
    pods = the(made, "PTSTRun")["spec"]["pods"]
    assert pods["labels"] == {"team": "", "cost": "x"} and pods["annotations"] == {"a": ""}


def test_jobs_have_no_proxy_of_a_mesh_that_would_never_end() -> None:
    pods = pod_templates(manifests(EVERYTHING))
    jobs = {name: pod for name, pod in pods.items() if not name.startswith("Deployment")}
    assert len(jobs) == 3
    for pod in jobs.values():
        assert pod["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"
        assert pod["metadata"]["annotations"]["linkerd.io/inject"] == "disabled"


def test_more_objects_are_templates() -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "{{ .Release.Name }}-keys"}, "stringData": {"a": "1"}}
    made = the(manifests({"extraObjects": [secret, {**secret, "kind": "ConfigMap"}]}), "Secret")
    assert made["metadata"]["name"] == "ptst-keys" and made["stringData"] == {"a": "1"}


def test_a_render_depends_on_the_values_alone() -> None:
    """Argo CD renders again and again and compares; it knows no revision of a release."""
    assert manifests(EVERYTHING) == manifests(EVERYTHING)
    first, again = (the(manifests(values), "Job", "")["metadata"]["name"] for values in (DOCTOR, DOCTOR))
    changed = the(manifests({**DOCTOR, "run": {"pods": {"image": "visionr1-ptst/trainer:0.2.0"}}}), "Job")["metadata"]["name"]
    assert first == again != changed, "a Job cannot be changed, so another one has another name"


DOCTOR: Values = {"doctor": {"enabled": True}, "definition": {"upgrade": False}}
