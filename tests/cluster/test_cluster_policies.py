"""Who may talk to whom by the chart's NetworkPolicies, worked out as a network plugin does, with the labels that pods have.

The test network enforces none.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from control_plane import HOME
from ptst_operator.children import isolation, job, pytorchjob, raycluster
from ptst_operator.run import ResolvedRun
from ptst_operator.spec import Spec, resolve_recipe
from test_cluster_definition import rendered

from visionr1.recipe import phases

Manifest = dict[str, Any]
PORTS = (53, 443, 6379, 6443, 8080, 8265, 9464, 9465, 9472, 23456)
"""DNS, the API server, Ray, the operator's HTTP and Ray's metrics, Ray's jobs, a driver, a pod's first and last worker, SFT."""
EVERY = set(PORTS)
CREDENTIALS = (
    *("169.254.169.254", "fd00:ec2::254", "169.254.170.23", "fd00:ec2::23", "fd20:ce::254", "fe80::a9fe:a9fe"),
    *("100.100.100.200", "168.63.129.16"),
)
"""Where clouds give a node's keys to all who ask: AWS, EKS, Google, Alibaba, Azure."""
MONITORING = 'networkPolicy.monitoringNamespace={"team":"observers"}'
KUBERAY_S = {"kubernetes.io/metadata.name": "kuberay-system"}
KUBERAY = 'networkPolicy.kuberayNamespace={"team":"ray"}'


@dataclass(frozen=True)
class Pod:
    """Whom a policy sees; `names` are its ports that have one."""

    labels: dict[str, str] = field(default_factory=dict)
    namespace: dict[str, str] = field(default_factory=lambda: {"kubernetes.io/metadata.name": "vision"})
    names: dict[str, int] = field(default_factory=dict)
    address: str = "10.0.0.9"

    @property
    def in_release(self) -> bool:
        return self.namespace == Pod().namespace


def selects(selector: Manifest, labels: dict[str, str]) -> bool:
    wanted = selector.get("matchLabels", {}).items()
    expressions = selector.get("matchExpressions", [])
    assert {one["operator"] for one in expressions} <= {"Exists", "In"}, "the only ones that the chart uses"
    return wanted <= labels.items() and all(labels.get(one["key"]) in one.get("values", labels.values()) for one in expressions)


def is_peer(peer: Manifest, pod: Pod) -> bool:
    if "ipBlock" in peer:
        # As plugins that do not count pods to a block of addresses.
        address, block = ip_address(pod.address), peer["ipBlock"]
        outside = address not in ip_network("10.0.0.0/8") and address in ip_network(block["cidr"])
        return outside and not any(address in ip_network(one) for one in block["except"])
    assert peer.keys() <= {"podSelector", "namespaceSelector"}
    if "namespaceSelector" in peer:
        there = pod.namespace != {} and selects(peer["namespaceSelector"], pod.namespace)
    else:
        there = pod.in_release
    return there and selects(peer.get("podSelector", {}), pod.labels)


def is_port(rule: Manifest, port: int, target: Pod) -> bool:
    if rule.get("protocol", "TCP") != "TCP":
        return False
    first: int = target.names.get(rule["port"], 0) if isinstance(rule["port"], str) else rule["port"]
    return bool(first <= port <= rule.get("endPort", first))


def passes(policies: list[Manifest], way: str, pod: Pod, peer: Pod, port: int, target: Pod) -> bool:
    """Whether the policies that select a pod let its traffic with a peer through; those of other namespaces are unknown."""
    mine = [one["spec"] for one in policies if pod.in_release and selects(one["spec"]["podSelector"], pod.labels)]
    mine = [one for one in mine if way in one["policyTypes"]]
    key, peers = ("ingress", "from") if way == "Ingress" else ("egress", "to")
    rules = [rule for one in mine for rule in one.get(key, [])]
    return not mine or any(
        (peers not in rule or any(is_peer(one, peer) for one in rule[peers]))
        and ("ports" not in rule or any(is_port(one, port, target) for one in rule["ports"]))
        for rule in rules
    )


def reached(policies: list[Manifest], source: Pod, target: Pod) -> set[int]:
    return {
        port
        for port in PORTS
        if passes(policies, "Egress", source, target, port, target) and passes(policies, "Ingress", target, source, port, target)
    }


def owner() -> ResolvedRun:
    """The chart's own run."""
    (run,) = [one for one in rendered("values") if one["kind"] == "PTSTRun"]
    spec = Spec.model_validate(run["spec"])
    return ResolvedRun("run", "vision", "uid", spec, resolve_recipe(spec, "run"))


def made(template: Manifest) -> Pod:
    (container,) = template["spec"]["containers"]
    return Pod(template["metadata"]["labels"], names={one["name"]: one["containerPort"] for one in container.get("ports", [])})


@pytest.fixture(scope="module")
def pods() -> dict[str, Pod]:
    """Those of the chart and of its run, KubeRay's by its own manifests, and others."""
    manifests = rendered("values")
    run = owner()
    phase = {one.kind: one for one in phases(run.recipe)}
    ray = raycluster.build(run, "x")["spec"]
    theirs = json.loads((HOME / "manifests/kuberay.json").read_text())
    (kuberay,) = [one["spec"]["template"] for one in theirs if one["kind"] == "Deployment"]
    (operator,) = [one["spec"]["template"] for one in manifests if one["kind"] == "Deployment"]
    (test,) = [one for one in manifests if one["kind"] == "Pod"]
    head = made(ray["headGroupSpec"]["template"])
    return {
        "operator": made(operator),
        "test": made(test),
        "head": head,
        "worker": made(ray["workerGroupSpecs"][0]["template"]),
        "sft": made(pytorchjob.build(run, "x", phase["sft"])["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]),
        "evaluate": made(job.build(run, "x", phase["evaluate"])["spec"]["template"]),
        "another run": Pod({**head.labels, "visionr1.io/run": "another"}),
        "kuberay": Pod(kuberay["metadata"]["labels"], KUBERAY_S),
        "kuberay by helm": Pod({"app.kubernetes.io/name": "kuberay-operator"}, KUBERAY_S),
        "a RayCluster": Pod({"app.kubernetes.io/name": "kuberay", "ray.io/cluster": "theirs"}, KUBERAY_S),
        "internet": Pod(namespace={}, address="198.51.100.7"),
        **{address: Pod(namespace={}, address=address) for address in CREDENTIALS},
        "prometheus": Pod({"app.kubernetes.io/name": "prometheus"}, {"team": "observers"}),
        "neighbour": Pod({"app.kubernetes.io/name": "visionr1-ptst"}),
        "stranger": Pod({"app.kubernetes.io/name": "visionr1-ptst"}, {"team": "others"}),
        "run elsewhere": Pod(head.labels, {"team": "others"}),
    }


@pytest.mark.parametrize(
    ("source", "target", "ports"),
    [
        ("operator", "head", {9464}),
        ("kuberay", "head", {8265}),
        ("kuberay by helm", "head", {8265}),
        ("worker", "head", EVERY),
        ("head", "worker", EVERY),
        ("sft", "sft", EVERY),
        ("head", "stranger", EVERY),  # S3, a teacher
        ("head", "internet", EVERY),  # the hub
        ("operator", "stranger", {53, 443, 6443}),
        ("operator", "internet", {53, 443, 6443}),
        *((source, target, {53}) for source in ("operator", "sft") for target in CREDENTIALS),
        ("operator", "neighbour", {53, 443, 6443}),
        ("test", "operator", {8080}),
        *((source, "operator", set()) for source in ("neighbour", "stranger", "run elsewhere", "head", "kuberay", "prometheus")),
        *(
            (source, target, set())
            for source in ("neighbour", "stranger", "run elsewhere", "another run", "a RayCluster", "test", "prometheus")
            for target in ("head", "worker", "sft", "evaluate")
        ),
    ],
)
def test_who_reaches_whom(source: str, target: str, ports: set[int], pods: dict[str, Pod]) -> None:
    assert reached(policies(), pods[source], pods[target]) == ports


@cache
def policies(*values: str) -> list[Manifest]:
    settings = [word for value in values for word in ("--set-json", value)]
    chart = [one for one in rendered("values", *settings) if one["kind"] == "NetworkPolicy"]
    return [*chart, isolation.build(owner())]


def test_each_policy_has_one_direction() -> None:
    """kube-router lets a policy's egress rules open the ports of pods that it selects, to others that it selects."""
    ways = [one["spec"]["policyTypes"] for one in policies()]
    assert sorted(ways) == [["Egress"]] * 2 + [["Ingress"]] * 3


def test_a_monitoring_namespace_reaches_all_that_has_metrics_and_no_more(pods: dict[str, Pod]) -> None:
    with_it = policies(MONITORING)
    assert reached(with_it, pods["prometheus"], pods["operator"]) == {8080}
    for name in ("head", "worker", "sft", "evaluate"):
        served = {port for port_name, port in pods[name].names.items() if "metrics" in port_name}
        assert served & EVERY and served & EVERY <= reached(with_it, pods["prometheus"], pods[name])
        assert reached(with_it, pods["prometheus"], pods[name]) == {8080, 9464, 9465, 9472}
        assert reached(with_it, pods["stranger"], pods[name]) == set()


def test_kuberay_s_namespace_may_be_another(pods: dict[str, Pod]) -> None:
    bound = policies(KUBERAY)
    assert reached(bound, Pod(pods["kuberay"].labels, {"team": "ray"}), pods["head"]) == {8265}
    for namespace in ({"team": "others"}, KUBERAY_S):
        assert reached(bound, Pod(pods["kuberay"].labels, namespace), pods["head"]) == set()


def test_link_local_addresses_may_be_let_through(pods: dict[str, Pod]) -> None:
    open_to_them = policies("networkPolicy.blockLinkLocal=false")
    assert reached(open_to_them, pods["head"], pods["169.254.169.254"]) == EVERY
    assert reached(open_to_them, pods["operator"], pods["169.254.169.254"]) == {53, 443, 6443}
    assert reached(open_to_them, pods["another run"], pods["head"]) == set()


def test_the_operator_reaches_the_ports_that_its_values_name(pods: dict[str, Pod]) -> None:
    with_s3 = policies("networkPolicy.operatorEgressPorts=[6443,23456]")
    assert reached(with_s3, pods["operator"], pods["stranger"]) == {53, 6443, 23456}
