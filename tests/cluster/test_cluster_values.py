"""Values of the chart that belong together: where they disagree, Helm answers with one line that says what to do."""

from __future__ import annotations

from typing import Any

import pytest
from chart import Values, manifests, pod_templates, refusal, the
from ptst_operator.rules import ROLES

from visionr1.recipe.document import merge

S3: Values = {"claim": {"name": "", "create": False}, "run": {"storage": {"url": "s3://bucket/run", "claim": None}}}
SECRET = {"secretKeyRef": {"name": "a", "key": "b"}}
TWO: list[dict[str, Any]] = [{"name": name, "emptyDir": {}} for name in ("a", "b")]
SAME_PATH = [{"name": "a", "mountPath": "/x"}, {"name": "b", "mountPath": "/x/"}]
SHARED = {"storage": {"url": "/dev/shm/r", "claim": {"mountPath": "/dev/shm"}}}
DATA = [{"name": "data", "mountPath": "/data"}]
NOWHERE = (
    "http://proxy:99999",
    "http://proxy:0",
    "http://",
    "https://:3128",
    "http://a:1\n",
    "http://a b:1",
    "fd00::1",
    "http://[::1",
    "//a:1",
)


def pods(**own: Any) -> Values:
    return {"run": {"pods": own}}


DISAGREE: dict[str, tuple[Values, str]] = {
    "the operator's mount": (
        {"claim": {"mountPath": "/data"}},
        "claim.mountPath is /data, but run.storage.claim.mountPath is /runs",
    ),
    "the pods' mount": (
        {"run": {"storage": {"claim": {"mountPath": "/data"}, "url": "/data/run"}}},
        "claim.mountPath is /runs, but run.storage.claim.mountPath is /data",
    ),
    "the operator's claim": ({"claim": {"name": "team"}}, 'claim.name is "team", but run.storage.claim.name is "visionr1-runs"'),
    "the pods' claim": ({"run": {"storage": {"claim": {"name": "team"}}}}, 'run.storage.claim.name is "team"'),
    "no claim of the operator": ({"claim": {"name": ""}}, 'claim.name is ""'),
    "the mount itself": ({"run": {"storage": {"url": "/runs-2/run"}}}, "the url must be a path below it"),
    "two queues": (
        {"run": {"queueLabels": {"kueue.x-k8s.io/queue-name": "a", "volcano.sh/queue-name": "b"}}},
        "kueue.x-k8s.io/queue-name and volcano.sh/queue-name",
    ),
    "fewer workers in a queue": (
        {"run": {"grpo": {"minWorkers": 4}, "queueLabels": {"kueue.x-k8s.io/queue-name": "a"}}},
        "run.grpo.minWorkers needs run.grpo.cluster shared and no run.queueLabels",
    ),
    "a queue of pods": (
        {"run": {"sft": {"pods": {"labels": {"kai.scheduler/queue": "a"}}}}},
        "run.sft.pods.labels has kai.scheduler/queue: put it in run.queueLabels",
    ),
    "another run's name": (
        {"run": {"coldstart": {"workers": {"labels": {"ray.io/cluster": "theirs"}}}}},
        "run.coldstart.workers.labels has ray.io/cluster, which tells which run a pod belongs to",
    ),
    "a queue of everything": (
        {"commonLabels": {"kueue.x-k8s.io/queue-name": "a"}},
        "commonLabels has kueue.x-k8s.io/queue-name: put it in run.queueLabels",
    ),
    "two S3 services": (
        merge(S3, {"operator": {"env": {"AWS_ENDPOINT_URL": "https://a"}}, **pods(env={"AWS_ENDPOINT_URL": "https://b"})}),
        "operator.env.AWS_ENDPOINT_URL is https://a, but run.pods.env.AWS_ENDPOINT_URL is https://b",
    ),
    "two S3 services of roles": (
        {"run": {"sft": {"pods": {"env": {"AWS_ENDPOINT_URL": "https://b"}}}}},
        'run.sft.pods.env.AWS_ENDPOINT_URL is https://b, but run.pods.env.AWS_ENDPOINT_URL is ""',
    ),
    "a label by which the chart finds its pods": (
        {"commonLabels": {"app.kubernetes.io/name": "mine"}},
        "commonLabels has app.kubernetes.io/name, which the chart, the operator or Kubernetes sets to find its own objects",
    ),
    "a label of runs for the operator": (
        {"operator": {"podLabels": {"visionr1.io/run": "mine"}}},
        "operator.podLabels has visionr1.io/run, which the chart",
    ),
    "a claim over /tmp": (
        {"claim": {"mountPath": "/tmp/"}, "run": {"storage": {"url": "/tmp/r", "claim": {"mountPath": "/tmp/"}}}},
        "claim.mountPath is /tmp/, where every pod has something else: choose another path",
    ),
    "a run's claim over /dev/shm": (
        {"operator": {"enabled": False}, "claim": {"create": False}, "run": SHARED},
        "run.storage.claim.mountPath is /dev/shm, where every pod has something else",
    ),
    "two mounts at one path": (
        {"operator": {"volumes": TWO, "volumeMounts": SAME_PATH}},
        "operator.volumeMounts mounts b at /x/, where something else is mounted already",
    ),
    "two volumes of one name": (pods(volumes=[*TWO, *TWO]), "run.pods.volumes has two volumes called a"),
    "two regions": (
        merge(S3, {"operator": {"env": {"AWS_REGION": "a"}}, **pods(env={"AWS_REGION": "b"})}),
        "operator.env.AWS_REGION is a, but run.pods.env.AWS_REGION is b",
    ),
    "S3 of the operator alone": (
        merge(S3, {"operator": {"env": {"AWS_ENDPOINT_URL": "https://a"}}}),
        "operator.env has AWS_ENDPOINT_URL, but run.pods.env has not",
    ),
    "S3 of the pods alone": (
        merge(S3, pods(env={"AWS_ENDPOINT_URL": "https://a"})),
        "run.pods.env has AWS_ENDPOINT_URL, but operator.env has not",
    ),
    **{
        f"a proxy at {address}": ({"proxy": {"httpsProxy": address}}, "proxy.httpsProxy is no address that a program can reach")
        for address in NOWHERE
    },
    "a proxy by hand": (
        {"operator": {"env": {"http_proxy": "http://proxy:99999"}}},
        "operator.env.http_proxy is no address that a program can reach: give it as http://HOST:PORT or https://HOST",
    ),
    **{
        f"S3 at {address}": (pods(env={"AWS_ENDPOINT_URL_S3": address}), "run.pods.env.AWS_ENDPOINT_URL_S3 is no address")
        for address in (*NOWHERE, "s3.example:9000", "s3://bucket")
    },
    "S3 of the operator's Secret alone": (
        merge(S3, {"operator": {"envValueFrom": {"AWS_ENDPOINT_URL": SECRET}}}),
        "operator.envValueFrom has AWS_ENDPOINT_URL, but run.pods.env has not",
    ),
    "S3 of a Secret of the pods alone": (
        merge(S3, {**pods(envValueFrom={"AWS_ENDPOINT_URL_S3": SECRET}), "operator": {"envValueFrom": None}}),
        "run.pods.envValueFrom has AWS_ENDPOINT_URL_S3, but operator.env has not",
    ),
    "a claim's name": ({"claim": {"name": "My_Claim"}}, 'claim.name is "My_Claim": give at most 253 lower-case letters'),
    "an account's name": ({"operator": {"serviceAccount": {"name": "a/b"}}}, 'operator.serviceAccount.name is "a/b": give'),
    "a tag in the repository": (
        {"operator": {"image": {"repository": "registry.example:5000/op:1"}}},
        "operator.image.repository is registry.example:5000/op:1: give what stands after : or @ in operator.image.tag",
    ),
    "a family of addresses": ({"service": {"ipFamilies": ["ipv4"]}}, "service.ipFamilies is ipv4: give IPv4, IPv6 or both"),
    "two families for one": (
        {"service": {"ipFamilies": ["IPv4", "IPv6"]}},
        "service.ipFamilies has two, but service.ipFamilyPolicy allows one: set it to PreferDualStack",
    ),
    "a size that is none": ({"claim": {"size": "2TB"}}, "claim.size is 2TB: give an amount such as 4, 500m, 64Gi or 2Ti"),
    "more memory than the limit": (
        {"operator": {"resources": {"requests": {"memory": "0.5Gi"}}}},
        "operator.resources.requests.memory is 0.5Gi, more than operator.resources.limits.memory (256Mi): raise the limit, too",
    ),
    "less than what is asked for": (
        {"jobs": {"resources": {"limits": {"cpu": "1m"}}}},
        "jobs.resources.requests.cpu is 50m, more than jobs.resources.limits.cpu (1m): raise the limit, too",
    ),
    "an amount that is none": (
        {"operator": {"resources": {"limits": {"memory": "512MB"}}}},
        "operator.resources.limits.memory is 512MB: give an amount such as",
    ),
    "a scrape that is longer than its interval": (
        {"monitoring": {"podMonitor": {"interval": "1m", "scrapeTimeout": "1m1s"}}},
        "monitoring.podMonitor.scrapeTimeout is 1m1s, longer than interval (1m): give at most as long",
    ),
    "a time in no order of Prometheus": (
        {"monitoring": {"podMonitor": {"interval": "30s1m"}}},
        "monitoring.podMonitor.interval is 30s1m: give a time such as 15s or 1m30s",
    ),
    "an interval that is none": (
        {"monitoring": {"podMonitor": {"interval": "15"}}},
        "monitoring.podMonitor.interval is 15: give a time such as 15s or 1m30s",
    ),
    "two proxies": (
        {"proxy": {"httpsProxy": "http://a:1"}, "operator": {"env": {"https_proxy": "http://b:1"}}},
        "operator.env has https_proxy beside the values of proxy: give it in proxy alone",
    ),
    "the same proxy twice": (
        {"proxy": {"httpsProxy": "http://a:1", "noProxy": ".a"}, **pods(env={"NO_PROXY": ".a"})},
        "run.pods.env has NO_PROXY beside the values of proxy: give it in proxy alone",
    ),
    "a proxy of one role": (
        {"proxy": {"noProxy": ".a"}, "run": {"grpo": {"workers": {"env": {"http_proxy": "http://b:1"}}}}},
        "run.grpo.workers.env has http_proxy beside the values of proxy: give it in proxy alone",
    ),
    "a proxy from a Secret beside one": (
        {"proxy": {"httpsProxy": "http://a:1"}, "operator": {"envValueFrom": {"HTTPS_PROXY": SECRET}}},
        "operator.envValueFrom has HTTPS_PROXY beside the values of proxy: give it in proxy alone",
    ),
    "a role's proxy from a Secret beside one": (
        {"proxy": {"httpsProxy": "http://a:1"}, "run": {"grpo": {"workers": {"envValueFrom": {"no_proxy": SECRET}}}}},
        "run.grpo.workers.envValueFrom has no_proxy beside the values of proxy: give it in proxy alone",
    ),
    "a variable of the chart": (
        {"operator": {"env": {"POD_NAMESPACE": "mine"}}},
        "operator.env has POD_NAMESPACE, which the chart sets from the pod itself: remove it",
    ),
    "a variable of the chart from elsewhere": (
        {"operator": {"envValueFrom": {"POD_NAME": SECRET}}},
        "operator.envValueFrom has POD_NAME, which the chart sets",
    ),
    "a run where nobody watches": (
        {"operator": {"watchNamespaces": ["team-a", "team-b"]}},
        "operator.watchNamespaces is team-a, team-b, but the run would be in vision, where no operator sees it",
    ),
    "two proxies of pods": (
        pods(env={"NO_PROXY": "a", "no_proxy": "b"}),
        "run.pods.env has NO_PROXY and no_proxy with different values",
    ),
    "a mount without its volume": (
        pods(volumeMounts=DATA),
        "names the volume data, which run.pods.volumes does not have",
    ),
    "a mount of the operator without its volume": (
        {"operator": {"volumeMounts": DATA}},
        "operator.volumeMounts names the volume data, which operator.volumes does not have",
    ),
    "two volumes at one path": (
        pods(volumes=[{"name": "data", "emptyDir": {}}], volumeMounts=[{"name": "data", "mountPath": "/runs/"}]),
        "mounts data at /runs/, where something else is mounted already",
    ),
    "a volume over /tmp": (
        {"operator": {"volumes": [{"name": "t", "emptyDir": {}}], "volumeMounts": [{"name": "t", "mountPath": "/tmp"}]}},
        "operator.volumeMounts mounts t at /tmp",
    ),
    "a name that is taken": (pods(volumes=[{"name": "run", "emptyDir": {}}]), "has a volume called run"),
    "a doctor without an image": (
        {"run": {"enabled": False, "pods": {"image": None}}, "doctor": {"enabled": True}},
        "doctor.image",
    ),
}


@pytest.mark.parametrize(("values", "line"), DISAGREE.values(), ids=DISAGREE.keys())
def test_values_that_disagree_are_refused_in_one_line(values: Values, line: str) -> None:
    assert line in refusal(values)


@pytest.mark.parametrize(("part", "role"), ROLES)
def test_each_role_is_checked_and_has_the_registry_of_an_umbrella_chart(part: str, role: str) -> None:
    queued: Values = {"run": {part: {role: {"labels": {"kai.scheduler/queue": "a"}}}}}
    assert f"run.{part}.{role}.labels has kai.scheduler/queue" in refusal(queued)
    own: Values = {"run": {part: {role: {"image": "visionr1-ptst/trainer:0.1.0-cpu"}}}}
    made = the(manifests({"global": {"imageRegistry": "registry.corp.example"}, **own}), "PTSTRun")
    assert made["spec"][part][role]["image"] == "registry.corp.example/visionr1-ptst/trainer:0.1.0-cpu"


ENDPOINT = {"AWS_ENDPOINT_URL": "https://a"}
AGREE: dict[str, Values] = {
    "no limits": {"operator": {"resources": {"limits": None}}},
    "a device beside amounts": {"operator": {"resources": {"claims": [{"name": "device"}]}}},
    "as much as the limit": {"jobs": {"resources": {"requests": {"cpu": "1000m", "memory": "268435456"}}}},
    "a scrape as long as its interval": {"monitoring": {"podMonitor": {"interval": "1m30s", "scrapeTimeout": "90s"}}},
    "another path": {"claim": {"mountPath": "/data"}, "run": {"storage": {"url": "/data/run", "claim": {"mountPath": "/data"}}}},
    "S3": S3,
    "S3 by both": merge(S3, {"operator": {"env": ENDPOINT}, **pods(env=ENDPOINT)}),
    "S3 by a ConfigMap": merge(S3, {"operator": {"env": ENDPOINT}, **pods(envFrom=[{"configMapRef": {"name": "s3"}}])}),
    "a volume that the operator mounts by hand": {
        "claim": {"name": "", "create": False},
        "operator": {
            "volumes": [{"name": "team", "persistentVolumeClaim": {"claimName": "visionr1-runs"}}],
            "volumeMounts": [{"name": "team", "mountPath": "/runs"}],
        },
    },
    "a head of the CPU image": {"run": {"grpo": {"head": {"image": "visionr1-ptst/trainer:0.1.0-cpu"}}}},
    "a role's own volume": {
        "run": {"sft": {"pods": {"volumes": [{"name": "data", "emptyDir": {}}], "volumeMounts": DATA}}},
    },
    "no run": {"claim": {"mountPath": "/data"}, "run": {"enabled": False}},
    "fewer workers": {"run": {"grpo": {"minWorkers": 4}, "deadlines": {"workersSeconds": 60, "pendingSeconds": 600}}},
    "one queue": {"run": {"queueLabels": {"kueue.x-k8s.io/queue-name": "a", "kueue.x-k8s.io/priority-class": "b"}}},
}


@pytest.mark.parametrize("values", AGREE.values(), ids=AGREE.keys())
def test_values_that_agree_render(values: Values) -> None:
    assert the(manifests(values), "Deployment")


@pytest.mark.parametrize("text", ["-----BEGIN-----\n-----END-----\n", "a\n\n"])
def test_a_text_keeps_the_line_breaks_at_its_end(text: str) -> None:
    own: Values = {"env": {"A": text}, "annotations": {"a": text}}
    made = manifests(
        {
            "podAnnotations": {"z": text},
            "operator": {"env": {"A": text}},
            "doctor": {"enabled": True},
            "run": {"pods": own, **{part: {role: own for one, role in ROLES if one == part} for part, _ in ROLES}},
        }
    )
    spec = the(made, "PTSTRun")["spec"]
    for place in (spec["pods"], *(spec[part][role] for part, role in ROLES)):
        assert (place["env"]["A"], place["annotations"]["a"]) == (text, text)
    for name, pod in pod_templates(made).items():
        assert pod["metadata"]["annotations"]["z"] == text, name
    (operator,) = the(made, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert {"name": "A", "value": text} in operator["env"]
