"""One operator for one team or for several, with rights that somebody else gives, in networks that somebody else has built."""

from __future__ import annotations

from typing import Any

import pytest
from chart import Manifest, Values, manifests, pod_templates, the

ADMISSION = ("--api-versions", "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy")
MONITORS: Values = {"monitoring": {"podMonitor": {"enabled": True}}}


def of(made: list[Manifest], kind: str) -> list[Manifest]:
    return [one for one in made if one["kind"] == kind]


def arguments(made: list[Manifest]) -> list[str]:
    (container,) = the(made, "Deployment")["spec"]["template"]["spec"]["containers"]
    return list(container["args"])


def variables(container: Manifest) -> dict[str, Any]:
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}


def test_a_service_account_may_be_there_already() -> None:
    made = manifests({"operator": {"serviceAccount": {"create": False, "name": "ptst-irsa"}}, "definition": {"upgrade": False}})
    assert of(made, "ServiceAccount") == []
    assert the(made, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"] == "ptst-irsa"
    (subject,) = the(made, "RoleBinding")["subjects"]
    assert subject == {"kind": "ServiceAccount", "name": "ptst-irsa", "namespace": "vision"}
    unnamed = manifests({"operator": {"serviceAccount": {"create": False}}})
    assert the(unnamed, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"] == "default"


def test_the_pods_that_ask_the_api_server_mount_their_token_whatever_the_account_says() -> None:
    pods = pod_templates(manifests({}))
    asking = [pod["spec"] for pod in pods.values() if "serviceAccountName" in pod["spec"]]
    assert [pod["automountServiceAccountToken"] for pod in asking] == [True, True]


def test_rights_may_come_from_somebody_else() -> None:
    made = manifests({"rbac": {"create": False}, "operator": {"replicas": 2}, "definition": {"upgrade": False}})
    assert not [one for one in made if "Role" in one["kind"]]
    assert len(of(made, "ServiceAccount")) == 1
    assert [one["metadata"]["name"] for one in of(manifests({"rbac": {"aggregate": False}}), "ClusterRole")] == [
        "ptst-upgrade.vision"
    ]


def test_users_of_a_namespace_may_use_its_runs() -> None:
    made = manifests({})
    view, edit = (the(made, "ClusterRole", f"ptst.vision.ptstruns-{role}") for role in ("view", "edit"))
    prefix = "rbac.authorization.k8s.io/aggregate-to-"

    def joins(role: Manifest) -> set[str]:
        return {name.removeprefix(prefix) for name in role["metadata"]["labels"] if name.startswith(prefix)}

    assert joins(view) == {"view", "edit", "admin"} and joins(edit) == {"edit", "admin"}
    assert {verb for rule in view["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}
    assert {verb for rule in edit["rules"] for verb in rule["verbs"]} == {
        "create",
        "update",
        "patch",
        "delete",
        "deletecollection",
    }
    assert {name for rule in edit["rules"] for name in rule["resources"]} == {"ptstruns"}, "the status is the operator's"


def test_a_release_may_have_a_run_and_no_operator() -> None:
    made = manifests({**MONITORS, "operator": {"enabled": False}, "claim": {"create": False}}, release="second")
    assert {one["kind"] for one in made} == {"PTSTRun", "PodMonitor"}, "the platform's release has the rights of its users"
    other = manifests({**MONITORS, "run": {"enabled": False}})
    mine = {(one["kind"], one["metadata"]["name"]) for one in made}
    assert not mine & {(one["kind"], one["metadata"]["name"]) for one in other}, "both can be installed in one namespace"


def test_an_operator_watches_its_own_namespace_alone() -> None:
    made = manifests(MONITORS)
    assert not [word for word in arguments(made) if word.startswith("--namespace")], "POD_NAMESPACE"
    assert {one["metadata"]["namespace"] for one in of(made, "Role")} == {"vision"}
    assert all("namespaceSelector" not in one["spec"] for one in of(made, "PodMonitor"))


def test_an_operator_watches_several_namespaces() -> None:
    several: Values = {"operator": {"watchNamespaces": ["team-a", "team-b", "team-a"]}, "run": {"enabled": False}}
    made = manifests({**MONITORS, **several}, *ADMISSION)
    assert "--namespace=team-a,team-b" in arguments(made)
    assert {one["metadata"]["namespace"] for one in of(made, "Role")} == {"team-a", "team-b"}
    for one in of(made, "RoleBinding"):
        assert one["subjects"] == [{"kind": "ServiceAccount", "name": "ptst-operator", "namespace": "vision"}]
        assert one["roleRef"]["name"] == "ptst-operator.vision"
    (selected,) = the(made, "ValidatingAdmissionPolicyBinding")["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"]
    assert selected["values"] == ["team-a", "team-b"]
    runs = [one for one in of(made, "NetworkPolicy") if one["metadata"]["name"] == "ptst-runs"]
    assert {one["metadata"]["namespace"] for one in runs} == {"team-a", "team-b"}
    for one in runs:
        (peer,) = [
            peer for rule in one["spec"]["ingress"] for peer in rule["from"] if "matchLabels" in peer.get("podSelector", {})
        ][:1]
        assert peer["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "vision"}}
    monitors = {one["metadata"]["name"]: one["spec"].get("namespaceSelector") for one in of(made, "PodMonitor")}
    both = {"matchNames": ["team-a", "team-b"]}
    assert monitors == {"ptst-operator": None, "ptst-ray": both, "ptst-run": both}


def test_an_operator_watches_every_namespace() -> None:
    made = manifests({**MONITORS, "operator": {"watchNamespaces": ["*"]}}, *ADMISSION)
    assert "--namespace=*" in arguments(made)
    assert of(made, "Role") == []
    rules = the(made, "ClusterRole", "ptst-operator.vision")["rules"]
    own = [rule for rule in the(manifests({}), "Role")["rules"] if "networkpolicies" not in rule["resources"]]
    assert rules == own, "the same rights, everywhere"
    assert "--isolate-runs" not in arguments(made) and "--isolate-runs" in arguments(manifests({}))
    assert [one["metadata"]["name"] for one in of(made, "NetworkPolicy")] == ["ptst-operator", "ptst-operator-egress"]
    assert the(made, "ClusterRoleBinding", "ptst-operator.vision")["roleRef"]["kind"] == "ClusterRole"
    assert "matchResources" not in the(made, "ValidatingAdmissionPolicyBinding")["spec"]
    egress = the(made, "NetworkPolicy", "ptst-operator-egress")["spec"]["egress"]
    runs, _ = [peer for rule in egress for peer in rule.get("to", []) if "podSelector" in peer]
    assert runs["namespaceSelector"] == {} and runs["podSelector"]["matchExpressions"][0]["key"] == "visionr1.io/run"


def test_several_pods_of_the_operator_work_in_turn() -> None:
    made = manifests({"operator": {"replicas": 3}})
    deployment = the(made, "Deployment")["spec"]
    assert (deployment["replicas"], deployment["strategy"]) == (3, {"type": "RollingUpdate"})
    assert "--lease=ptst-operator" in arguments(made)
    (container,) = deployment["template"]["spec"]["containers"]
    assert variables(container)["POD_NAME"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert "podAntiAffinity" in deployment["template"]["spec"]["affinity"]
    budget = the(made, "PodDisruptionBudget")["spec"]
    assert budget == {"maxUnavailable": 1, "selector": deployment["selector"]}
    named, new = the(made, "Role", "-lease")["rules"]
    assert (named["resourceNames"], named["verbs"], new["verbs"]) == (["ptst-operator"], ["get", "update"], ["create"])
    assert of(manifests({"operator": {"replicas": 3, "podDisruptionBudget": {"enabled": False}}}), "PodDisruptionBudget") == []
    alone = manifests({})
    one_goes_first = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    assert the(alone, "Deployment")["spec"]["strategy"] == one_goes_first
    assert not [word for word in arguments(alone) if "lease" in word] and of(alone, "PodDisruptionBudget") == []
    assert [one["metadata"]["name"] for one in of(alone, "Role")] == ["ptst-operator"]


def test_variables_may_come_from_elsewhere() -> None:
    key = {"secretKeyRef": {"name": "s3", "key": "id"}}
    node = {"fieldRef": {"fieldPath": "status.hostIP"}}
    made = manifests({"operator": {"envValueFrom": {"KEY": key}}, "run": {"pods": {"envValueFrom": {"NODE": node}}}})
    (container,) = the(made, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert variables(container)["KEY"] == key
    assert the(made, "PTSTRun")["spec"]["pods"]["envValueFrom"] == {"NODE": node}


def test_a_variable_is_there_once_and_the_one_from_elsewhere_is_stronger_as_in_a_run() -> None:
    key = {"secretKeyRef": {"name": "s3", "key": "id"}}
    names = {"KEY": "plain", "NO": "1"}
    made = the(manifests({"operator": {"replicas": 2, "env": names, "envValueFrom": {"KEY": key}}}), "Deployment")
    (container,) = made["spec"]["template"]["spec"]["containers"]
    given = [one["name"] for one in container["env"]]
    assert sorted(given) == sorted({"POD_NAMESPACE", "POD_NAME", *names}), "twice is refused by a server-side apply"
    assert variables(container)["KEY"] == key


def test_a_proxy_is_used_by_all_pods_and_never_for_the_cluster() -> None:
    values: Values = {
        "proxy": {"httpsProxy": "http://proxy.example:3128", "noProxy": "10.0.0.0/8,.example"},
        "doctor": {"enabled": True},
    }
    made = manifests(values)
    pods = {name: pod for name, pod in pod_templates(made).items() if not name.startswith("Pod")}
    assert len(pods) == 3
    found = [variables(pod["spec"]["containers"][0]) for pod in pods.values()] + [the(made, "PTSTRun")["spec"]["pods"]["env"]]
    for env in found:
        assert env["HTTPS_PROXY"] == env["https_proxy"] == "http://proxy.example:3128"
        assert env["NO_PROXY"] == env["no_proxy"] and "HTTP_PROXY" not in env
        direct = env["NO_PROXY"].split(",")
        assert {"localhost", ".svc", ".cluster.local", "$(KUBERNETES_SERVICE_HOST)", "10.0.0.0/8", ".example"} <= set(direct)
        assert "" not in direct
    assert "env" not in the(manifests({"proxy": {"noProxy": ".example"}}), "PTSTRun")["spec"]["pods"], (
        "no proxy, nothing to leave out"
    )


def test_the_service_may_have_both_families_of_addresses() -> None:
    service = the(manifests({"service": {"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6", "IPv4"]}}), "Service")
    assert (service["spec"]["ipFamilyPolicy"], service["spec"]["ipFamilies"]) == ("PreferDualStack", ["IPv6", "IPv4"])
    assert not {"ipFamilyPolicy", "ipFamilies"} & the(manifests({}), "Service")["spec"].keys()


def egress(values: Values) -> list[Manifest]:
    """The rules, without the one by which the pod of helm test reaches the operator."""
    rules: list[Manifest] = the(manifests({"networkPolicy": values}), "NetworkPolicy", "ptst-operator-egress")["spec"]["egress"]
    return [one for one in rules if one["ports"] != [{"port": "http", "protocol": "TCP"}]]


def test_dns_is_open_at_its_own_port_and_at_openshift_s() -> None:
    dns, ports, runs = egress({"operatorEgressPorts": [443, 6443, 5353]})
    assert {(one["port"], one["protocol"]) for one in dns["ports"]} == {(p, t) for p in (53, 5353) for t in ("UDP", "TCP")}
    assert "to" not in dns and [one["port"] for one in ports["ports"]] == [443, 6443, 5353] and "to" in runs
    assert {one["port"] for one in egress({"dnsPorts": [1053]})[0]["ports"]} == {1053}


@pytest.mark.parametrize("none", [[], None], ids=["empty", "null"])
def test_a_list_of_no_ports_opens_none(none: list[int] | None) -> None:
    for values in ({"dnsPorts": none}, {"operatorEgressPorts": none}, {"dnsPorts": none, "operatorEgressPorts": none}):
        made = [one["spec"] for one in of(manifests({"networkPolicy": values}), "NetworkPolicy")]
        rules = [rule for one in made for way in ("ingress", "egress") for rule in one.get(way, [])]
        assert all(rule.get("ports") or rule.get("to") or rule.get("from") for rule in rules), f"{values} opens everything"
    assert len(egress({"dnsPorts": none, "operatorEgressPorts": none})) == 1, "what is left is the metrics of runs"


def opened(values: Values) -> list[int]:
    """TCP ports that are open beside DNS and the metrics of runs."""
    rules = the(manifests(values), "NetworkPolicy", "ptst-operator-egress")["spec"]["egress"]
    return [one["port"] for one in rules[1]["ports"]]


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("http://proxy.example:3128", 3128),
        ("http://name:word@proxy.example:3128/", 3128),
        ("https://[fd00::1]:8443", 8443),
        ("10.0.0.1:9000", 9000),
        ("http://[fd00::1]/", 80),
        ("http://proxy.example", 80),
    ],
)
def test_the_ports_of_a_proxy_and_of_s3_are_open(url: str, port: int) -> None:
    assert opened({}) == [443, 6443]
    cases: list[Values] = [
        {"proxy": {"httpsProxy": url}},
        {"proxy": {"httpProxy": url}},
        {"operator": {"env": {"https_proxy": url}}},
        *({"operator": {"env": {name: url}}} for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3") if "://" in url),
    ]
    for values in cases:
        assert opened(values) == [443, 6443, port]
    for tls in ("https://s3.example", " HTTPS://S3.example "):
        assert opened({"operator": {"env": {"AWS_ENDPOINT_URL": tls, "NO_PROXY": "a:1"}}}) == [443, 6443]
    assert opened({"networkPolicy": {"operatorEgressPorts": []}, "proxy": {"httpsProxy": url}}) == [port]


def test_a_proxy_s_password_may_come_from_a_secret() -> None:
    """Kubernetes puts a variable in the place of $(NAME) only if it is defined before."""
    secret = {"PROXY_PASSWORD": {"secretKeyRef": {"name": "proxy", "key": "password"}}}
    values = {"proxy": {"httpsProxy": "http://me:$(PROXY_PASSWORD)@proxy.example:3128"}, "operator": {"envValueFrom": secret}}
    (container,) = the(manifests(values), "Deployment")["spec"]["template"]["spec"]["containers"]
    names = [one["name"] for one in container["env"]]
    assert names.index("PROXY_PASSWORD") < min(names.index("HTTPS_PROXY"), names.index("https_proxy"))
    assert opened(values) == [443, 6443, 3128]


def test_the_chart_s_own_pods_reach_what_they_need_in_a_closed_namespace() -> None:
    """The Job that upgrades the definition asks the API server, the pod of helm test asks the operator."""
    made = manifests()
    policy = the(made, "NetworkPolicy", "ptst-operator-egress")["spec"]
    (component,) = policy["podSelector"]["matchExpressions"]
    assert component == {"key": "app.kubernetes.io/component", "operator": "In", "values": ["operator", "definition", "test"]}
    pods = {name: one["metadata"]["labels"] for name, one in pod_templates(manifests({}, "--is-upgrade")).items()}
    chosen = {labels["app.kubernetes.io/component"] for labels in pods.values()} - {"doctor"}
    assert chosen == set(component["values"])
    assert all(policy["podSelector"]["matchLabels"].items() <= labels.items() for labels in pods.values())
    service = the(made, "Service")["spec"]
    assert {
        "ports": [{"port": "http", "protocol": "TCP"}],
        "to": [{"podSelector": {"matchLabels": service["selector"]}}],
    } in policy["egress"]


def test_ports_of_the_operator_may_be_open_in_some_networks_alone() -> None:
    ports = egress({"operatorEgressBlocks": ["10.0.0.0/8", "fd00::/8"]})[1]
    assert ports["to"] == [{"ipBlock": {"cidr": "10.0.0.0/8"}}, {"ipBlock": {"cidr": "fd00::/8"}}]


def test_the_cloud_s_keys_can_be_reached_where_it_is_asked_for() -> None:
    def blocks(values: Values, policy: str) -> dict[str, set[int]]:
        rules = the(manifests({"networkPolicy": values}), "NetworkPolicy", policy)["spec"]["egress"]
        to = [(peer["ipBlock"], rule) for rule in rules for peer in rule.get("to", []) if "ipBlock" in peer]
        return {block["cidr"]: {one["port"] for one in rule["ports"]} for block, rule in to if "except" not in block}

    for policy in ("ptst-operator-egress", "ptst-runs-egress"):
        assert blocks({}, policy) == {}
        assert blocks({"cloudIdentity": "eks"}, policy) == {"169.254.170.23/32": {80}, "fd00:ec2::23/128": {80}}
        assert blocks({"cloudIdentity": "metadata"}, policy) == {"169.254.169.254/32": {80}, "fd00:ec2::254/128": {80}}
        assert 988 in blocks({"cloudIdentity": "gke"}, policy)["169.254.169.252/32"]


def test_more_rules_are_taken_as_they_are() -> None:
    rule = {"ports": [{"port": 4317, "protocol": "UDP"}], "to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}
    assert rule in egress({"operatorEgress": [rule]})
    made = manifests({"networkPolicy": {"operatorIngress": [{"from": []}], "runsIngress": [{"ports": []}]}})
    assert {"from": []} in the(made, "NetworkPolicy", "ptst-operator")["spec"]["ingress"]
    assert {"ports": []} in the(made, "NetworkPolicy", "ptst-runs")["spec"]["ingress"]


def dashboard(values: Values) -> list[Manifest]:
    rules = the(manifests({"networkPolicy": values}), "NetworkPolicy", "ptst-runs")["spec"]["ingress"]
    (rule,) = [one for one in rules if {"port": 8265, "protocol": "TCP"} in one.get("ports", [])]
    return list(rule["from"])


def test_only_kuberay_s_operator_may_reach_the_port_at_which_ray_takes_jobs() -> None:
    ray_pod = {"app.kubernetes.io/name": "kuberay", "app.kubernetes.io/created-by": "kuberay-operator"}
    for peer in dashboard({}):
        assert not peer["podSelector"]["matchLabels"].items() <= ray_pod.items(), "any team's Ray pods have these labels"
    own = {"kuberayNamespace": {"kubernetes.io/metadata.name": "kuberay"}, "kuberayPodLabels": {"app": "ours"}}
    assert dashboard(own) == [
        {"namespaceSelector": {"matchLabels": own["kuberayNamespace"]}, "podSelector": {"matchLabels": own["kuberayPodLabels"]}}
    ]


QUOTA = {"requests.cpu", "requests.memory", "limits.cpu", "limits.memory"}


def test_every_pod_has_requests_and_limits_as_a_quota_asks_for() -> None:
    pods = pod_templates(manifests({"doctor": {"enabled": True}}))
    assert len(pods) == 4
    for name, pod in pods.items():
        for container in pod["spec"]["containers"] + pod["spec"].get("initContainers", []):
            given = {f"{kind}.{item}" for kind, items in container["resources"].items() for item in items}
            assert given >= QUOTA, f"{name}: {QUOTA - given}"


@pytest.mark.parametrize("enabled", [True, False])
def test_the_definition_is_upgraded_by_a_job_with_the_least_rights(enabled: bool) -> None:
    made = manifests({"definition": {"upgrade": enabled}})
    hooks = [one for one in made if one["metadata"].get("annotations", {}).get("helm.sh/hook") == "pre-upgrade"]
    assert {one["kind"] for one in hooks} == (
        {"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Job"} if enabled else set()
    )
    if enabled:
        (rule,) = the(hooks, "ClusterRole")["rules"]
        assert rule == {
            "apiGroups": ["apiextensions.k8s.io"],
            "resources": ["customresourcedefinitions"],
            "resourceNames": ["ptstruns.visionr1.io"],
            "verbs": ["get", "patch"],
        }
        weights = {one["kind"]: int(one["metadata"]["annotations"].get("helm.sh/hook-weight", 0)) for one in hooks}
        assert weights.pop("Job") > max(weights.values()), "its rights are there before it"
        pod = the(hooks, "Job")["spec"]["template"]["spec"]
        assert pod["containers"][0]["command"] == ["python", "-m", "ptst_operator.define"]
        assert pod["securityContext"]["runAsNonRoot"] and pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"]


def test_the_log_has_a_level_and_a_form() -> None:
    assert {"--log-level=info", "--log-format=text"} <= set(arguments(manifests({})))
    made = manifests({"operator": {"logLevel": "debug", "logFormat": "json"}})
    assert {"--log-level=debug", "--log-format=json"} <= set(arguments(made))
