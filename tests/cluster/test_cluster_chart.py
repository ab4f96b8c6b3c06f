"""What Helm makes of the chart's values. Needs no cluster, but its helm."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_cluster_definition import CHART, helm, rendered


def pods(*settings: str) -> list[dict[str, Any]]:
    """The operator's pod and the one of `helm test`."""
    made = rendered("values", *settings)
    (deployment,) = [one for one in made if one["kind"] == "Deployment"]
    (test,) = [one for one in made if one["kind"] == "Pod"]
    return [deployment["spec"]["template"]["spec"], test["spec"]]


def test_the_pod_of_helm_test_finds_image_and_node_as_the_operator_s_does() -> None:
    asked = {
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"pool": "system"},
        "tolerations": [{"operator": "Exists"}],
    }
    settings = ["operator.imagePullSecrets[0].name=registry", "operator.nodeSelector.pool=system"]
    settings += ["operator.tolerations[0].operator=Exists"]
    for pod in pods(*[word for value in settings for word in ("--set", value)]):
        assert {key: pod[key] for key in asked} == asked
    for pod in pods():
        assert not asked.keys() & pod.keys()


def test_helm_test_waits_for_an_operator_that_starts() -> None:
    (_, pod) = pods()
    (container,) = pod["containers"]
    (script, url) = container["args"]
    assert container["command"] == ["python", "-c"]
    assert url == "http://ptst-operator:8080/readyz"
    with HTTPServer(("127.0.0.1", 0), Starting) as server:
        command = [sys.executable, "-c", script, f"http://127.0.0.1:{server.server_port}/readyz"]
        asking = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for Starting.code in (503, 503, 200):
            server.handle_request()
        assert asking.communicate(timeout=30)[0] == "ready\n" and asking.returncode == 0


class Starting(BaseHTTPRequestHandler):
    code = 0

    def do_GET(self) -> None:
        self.send_response(self.code)
        self.end_headers()
        self.wfile.write(b"ready")


@pytest.mark.parametrize(
    ("value", "ids"),
    [("1000", [1000] * 3), ("1000660000", [1000660000] * 3), ("0", [None] * 3)],
    ids=["the default", "a large one", "those of the namespace"],
)
def test_the_operator_s_ids_are_its_user_s_or_the_namespace_s(value: str, ids: list[int | None]) -> None:
    for pod in pods("--set", f"operator.runAsUser={value}"):
        context = pod["securityContext"]
        assert [context.get(key) for key in ("runAsUser", "runAsGroup", "fsGroup")] == ids
        assert context["runAsNonRoot"] is True and context["seccompProfile"] == {"type": "RuntimeDefault"}


@pytest.fixture
def notes(tmp_path: Path) -> Callable[..., str]:
    """The notes on a cluster that has these kinds; Helm says them to `install` only, which takes no kinds."""
    copy = Path(shutil.copytree(CHART, tmp_path / "chart"))
    text = (copy / "templates/NOTES.txt").read_text()
    shown = '{{- define "notes" }}' + text + '{{ end }}notes: {{ include "notes" . | quote }}\n'
    (copy / "templates/notes.yaml").write_text(shown)

    def render(*settings: str, has: Sequence[str] = ()) -> str:
        kinds = [word for kind in has for word in ("--api-versions", kind)]
        chosen = ["--show-only", "templates/notes.yaml", *settings, *kinds]
        return str(yaml.safe_load(helm("template", "ptst", str(copy), "--namespace", "vision", *chosen))["notes"])

    return render


def test_the_notes_tell_of_a_queue_that_nobody_serves(notes: Callable[..., str]) -> None:
    queued = ("--set-json", 'run.queueLabels={"kueue.x-k8s.io/queue-name": "vision"}')
    missing = "this cluster has no Kueue"
    assert missing in notes(*queued) and missing not in notes()
    for version in ("v1beta1", "v1beta2"):
        assert missing not in notes(*queued, has=[f"kueue.x-k8s.io/{version}/LocalQueue"])


def test_the_notes_tell_of_a_trainer_without_jobset(notes: Callable[..., str]) -> None:
    trainer, operator = "trainer.kubeflow.org/v1alpha1/TrainJob", "kubeflow.org/v1/PyTorchJob"
    missing, wanted = "this cluster has no JobSet", ("--set", "run.sft.backend=trainjob")
    assert missing in notes(has=[trainer]) and missing in notes(*wanted, has=[trainer, operator])
    assert missing not in notes(has=[trainer, operator]) and missing not in notes()
    assert missing not in notes(has=[trainer, "jobset.x-k8s.io/v1alpha2/JobSet"])


def test_the_notes_name_a_run_only_where_there_is_one(notes: Callable[..., str]) -> None:
    assert "describe ptst vision-r1" in notes()
    without = notes("--set", "run.enabled=false")
    assert "ptst vision-r1" not in without and "No run was created" in without


def doctors(*settings: str) -> list[dict[str, Any]]:
    labels = {"app.kubernetes.io/component": "doctor"}
    return [
        one
        for one in rendered("values", *settings)
        if one["kind"] == "Job" and labels.items() <= one["metadata"]["labels"].items()
    ]


def doctor(*settings: str) -> dict[str, Any]:
    """The Job of the doctor."""
    chosen = [word for value in ("doctor.enabled=true", *settings) for word in ("--set", value)]
    (made,) = doctors(*chosen)
    return dict(made["spec"])


def test_the_doctor_is_asked_for() -> None:
    assert doctors() == []


def test_the_doctor_takes_all_gpus_of_so_many_nodes_as_the_run_s_pods_would() -> None:
    spec = doctor("doctor.nodes=3", "doctor.gpus=4", "run.pods.gpuResource=amd.com/gpu", "run.pods.nodeSelector.pool=gpu")
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert spec["completions"] == spec["parallelism"] == 3 and pod["nodeSelector"] == {"pool": "gpu"}
    assert container["resources"]["limits"] == {"amd.com/gpu": 4, "cpu": "32", "memory": "256Gi"}
    assert container["image"] == "visionr1-ptst/trainer:0.1.0"
    assert container["command"] == ["visionr1", "doctor", "vision-r1", "--seconds", "300"]
    (apart,) = pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert apart["labelSelector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
    shared = next(volume for volume in pod["volumes"] if volume["name"] == "shared-memory")
    assert shared["emptyDir"] == {"medium": "Memory", "sizeLimit": "64Gi"}


def test_the_doctor_without_gpus_has_its_own_resources() -> None:
    (container,) = doctor("doctor.gpus=0", "doctor.resources.requests.cpu=2")["template"]["spec"]["containers"]
    assert container["resources"]["requests"] == {"cpu": 2, "memory": "16Gi"}
    assert "nvidia.com/gpu" not in container["resources"]["limits"]


def test_the_doctor_s_pod_is_restricted() -> None:
    pod = doctor()["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 1000
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["readOnlyRootFilesystem"] and not container["securityContext"]["allowPrivilegeEscalation"]
    assert not pod["automountServiceAccountToken"]


def test_the_notes_say_what_the_run_needs(notes: Callable[..., str]) -> None:
    paper = notes()
    assert "needs 64 GPUs at a time: 32 on 4 nodes for SFT, 64 on 8 nodes for GRPO, 1 for the evaluation." in paper
    assert "nominalQuota 64 of nvidia.com/gpu" in paper
    assert re.search(
        r"Planned for H800 .*: [1-9]\d+ GiB of host memory per node, \d\.\d TiB of storage, [1-9]\d\.\d hours", paper
    )
    eight = notes("--values", str(CHART / "presets/vision-r1-7b-8gpu.yaml"))
    assert "needs 8 GPUs at a time: 8 on 1 nodes for SFT, 8 on 1 nodes for GRPO" in eight and "Planned for H800" in eight
    own = notes("--set", "run.recipe.rollout.workers=16", "--set", "run.pods.gpuResource=amd.com/gpu")
    assert "needs 32 GPUs at a time: 32 on 4 nodes for SFT, 16 on 2 nodes for GRPO" in own
    assert "nominalQuota 32 of amd.com/gpu" in own and "Planned" not in own
    assert "The run needs no GPU." in notes("--values", str(CHART / "presets/cpu-demo.yaml"))
    assert "needs 64 GPUs at a time: 64 on 8 nodes for GRPO, 1" in notes("--values", str(CHART / "presets/zero.yaml"))
    assert "needs 32 GPUs at a time: 32 on 4 nodes for SFT, 1" in notes("--values", str(CHART / "presets/ci.yaml"))
    teachers = [f"run.recipe.coldstart.{one}" for one in ("describer.workers.count=3", "reasoner.workers.tensor_parallel=32")]
    taught = notes(
        *[word for one in teachers for word in ("--set", one)],
        "--set",
        "run.recipe.coldstart.describer.workers.tensor_parallel=16",
    )
    assert "needs 80 GPUs at a time: 80 for the teachers of the cold start, 32 on 4 nodes for SFT" in taught
    assert "nominalQuota 80 of nvidia.com/gpu" in taught
    scored = notes("--set", "run.recipe.evaluation.workers=96")
    assert "needs 96 GPUs at a time" in scored and "96 for the evaluation." in scored
    stages = 'run.recipe.stages=[{"max_completion_tokens":8192,"group_size":8,"steps":4,"tensor_parallel":8}]'
    both = notes("--set-json", stages, "--set", "run.recipe.evaluation.workers=2")
    assert "16 for the evaluation." in both
    assert "GPUs" not in notes("--set", "run.enabled=false")
