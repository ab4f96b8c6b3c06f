"""The chart as a user installs it, on the real node: a volume for the run directories, a small run, and what is seen of it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from control_plane import ControlPlane, tool, wait_for
from real_node import IMAGE, ROOT

CHART = ROOT / "charts/visionr1-ptst"
NAME = "visionr1-ptst"
ENDED = ("Succeeded", "Failed")
PAY = Path(ROOT) / "tests/kills/pay.py"
STAGE = {"max_completion_tokens": 24, "group_size": 4, "steps": 16}
RECIPE: dict[str, Any] = {
    "preset": "demo",
    "coldstart": {"problems": {"limit": 300}},
    "sft": {"max_steps": 8, "processes": 1},
    "data": {"train": {"limit": 80}, "held_out": {"limit": 20}},
    "algorithm": {"prompts_per_step": 4},
    "checkpoint": {"every": 4},
    "rollout": {"temperature": 2.0},
    # A barely trained model earns nothing by the hard reward; this one differs from completion to completion.
    "reward": {"function": f"{PAY}:checksum", "sha256": hashlib.sha256(PAY.read_bytes()).hexdigest()},
    "stages": [STAGE],
}
STAGES = [
    {"max_completion_tokens": 24, "group_size": 4, "steps": 40},
    {"max_completion_tokens": 48, "group_size": 2, "steps": 40},
]
ONLY_STAGES = {**RECIPE, "coldstart": None, "sft": None, "data": {"train": {"limit": 80}, "held_out": None}, "stages": STAGES}
ONLY_STAGES |= {"checkpoint": {"every": 2}}
TRAINED = ("step", "loss", "grad_norm", "reward_mean", "completion_tokens_mean", "kl_mean", "generated_tokens")
"""What must be the same in a run that something happened to."""
PODS: dict[str, Any] = {
    "image": IMAGE,
    "sharedMemory": "256Mi",
    "resources": {"requests": {"cpu": "100m", "memory": "512Mi"}},
    # A pod's own /tmp would hide a checkout that lies below this machine's.
    "volumes": [{"name": "checkout", "persistentVolumeClaim": {"claimName": "checkout", "readOnly": True}}],
    "volumeMounts": [{"name": "checkout", "mountPath": str(ROOT), "readOnly": True}],
}


class Release:
    """One installed chart, with its run directories under `runs`."""

    def __init__(self, platform: ControlPlane, namespace: str) -> None:
        self.platform, self.namespace = platform, namespace
        self.helm_command = tool("helm")
        self.runs = platform.folder / f"runs-{namespace}"
        self.runs.mkdir()
        os.chown(self.runs, 1000, 1000)
        self._volume("visionr1-runs", self.runs)
        self._volume("checkout", ROOT)
        size = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
        claim = {"name": "checkout", "namespace": namespace}
        platform.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": claim, "spec": size})

    def _volume(self, claim: str, folder: Path) -> None:
        """A folder of this machine, for one claim."""
        spec = {
            "capacity": {"storage": "20Gi"},
            "accessModes": ["ReadWriteMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": str(folder)},
            "claimRef": {"name": claim, "namespace": self.namespace},
        }
        meta = {"name": f"{self.namespace}-{claim}"}
        self.platform.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": meta, "spec": spec})

    def helm(self, *arguments: str) -> str:
        """What helm prints.

        Raises:
            RuntimeError: it failed, with its words.
        """
        environment = {**os.environ, "KUBECONFIG": str(self.platform.admin), "HOME": str(self.platform.folder)}
        command = [self.helm_command, *arguments, "--namespace", self.namespace]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise RuntimeError(f"helm {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def uninstall(self, kinds: str = "ptst,rayclusters,rayjobs,pods") -> None:
        """`helm uninstall`, until nothing of these kinds is left."""
        self.helm("uninstall", NAME)
        wait_for("nothing is left", lambda: not self.get(kinds)["items"], 120)

    def install(self, recipe: dict[str, Any], **run: Any) -> str:
        """`helm install` with the preset for pods without GPUs, made smaller; `run` are more of the run's values."""
        return self.install_values({"run": {"recipe": recipe, "pods": PODS, "sft": {"nodes": 2}, **run}})

    def install_values(self, values: dict[str, Any], *extra: str) -> str:
        """The same with any values."""
        file = self.platform.folder / f"values-{self.namespace}.json"
        file.write_text(json.dumps({"operator": {"resyncSeconds": 3}, **values}))
        return self.helm("install", NAME, str(CHART), "-f", str(CHART / "presets/cpu-demo.yaml"), "-f", str(file), *extra)

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """In the release's namespace."""
        return self.platform.kubectl("-n", self.namespace, *arguments, stdin=stdin, check=check)

    def get(self, *arguments: str) -> Any:
        """As JSON, in the release's namespace."""
        return self.platform.get("-n", self.namespace, *arguments)

    def status(self, run: str) -> dict[str, Any]:
        """The status of a run; {} before the operator has seen it."""
        status: dict[str, Any] = self.get("ptst", run).get("status", {})
        return status

    def wait(self, run: str, what: str, check: Callable[[dict[str, Any]], Any], seconds: float = 600) -> Any:
        """The first true answer about the run's status; an end that is not asked for ends the wait."""

        def looked() -> Any:
            status = self.status(run)
            found = check(status)
            if not found and status.get("phase") in ENDED:
                raise AssertionError(f"{run} ended before {what}: {json.dumps(status.get('conditions'), indent=1)}")
            return found

        # Not more often: a kubectl takes a tenth of a second of one core, and the run needs both.
        return wait_for(f"{run}: {what}", looked, seconds, every=1.0)

    def pods(self, selector: str) -> list[str]:
        """Names of the pods that a label selector finds."""
        return [one["metadata"]["name"] for one in self.get("pods", "-l", selector)["items"]]

    def steps(self, run: str) -> list[dict[str, Any]]:
        """The records of `steps.jsonl`."""
        file = self.runs / run / "steps.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def log(self) -> str:
        """The operator's."""
        return self.kubectl("logs", f"deploy/{NAME}-operator", "--tail=200", check=False)

    def rendered(self, kind: str, *values: str) -> list[dict[str, Any]]:
        """Manifests of a kind as the chart makes them."""
        settings = [word for value in values for word in ("--set", value)]
        text = self.helm("template", NAME, str(CHART), *settings)
        return [one for one in yaml.safe_load_all(text) if one and one["kind"] == kind]


def at(step: int) -> Callable[[dict[str, Any]], bool]:
    """A check: the run is at this global step or further."""
    return lambda status: (status.get("step") or 0) >= step


def train_alone(recipe: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """The step log of a recipe to which nothing happens: on this machine, without a cluster."""
    run, file = folder / "demo", folder / "demo.yaml"
    file.write_text(json.dumps({**recipe, "name": "demo"}))
    command = [sys.executable, "-m", "visionr1.cli", "run", str(file), "--run", str(run)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in (run / "steps.jsonl").read_text().splitlines()]


def watch(release: Release, run: str) -> str:
    """`visionr1 watch ptst/RUN --once`."""
    environment = {**os.environ, "KUBECONFIG": str(release.platform.admin), "COLUMNS": "160"}
    command = [sys.executable, "-m", "visionr1.cli", "watch", f"ptst/{run}", "--once", "-n", release.namespace]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Discovery(threading.Thread):
    """Finds what the chart's PodMonitors ask for, as the Prometheus operator does, and gives it to Prometheus in a file.

    Debian's Prometheus cannot ask the API server itself.
    """

    def __init__(self, release: Release) -> None:
        super().__init__(daemon=True)
        self._release = release
        self._monitors = release.rendered("PodMonitor", "monitoring.podMonitor.enabled=true")
        self._file = release.platform.folder / "targets.json"
        self._ended = threading.Event()

    @property
    def job(self) -> dict[str, Any]:
        """Prometheus' part of it."""
        return {"job_name": "pods", "file_sd_configs": [{"files": [str(self._file)], "refresh_interval": "5s"}]}

    def __enter__(self) -> Discovery:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        while not self._ended.wait(1.0):
            pods = self._release.get("pods")["items"]
            found = [one for monitor in self._monitors for pod in pods for one in _targets(monitor, pod)]
            text = json.dumps(found)
            if not self._file.exists() or self._file.read_text() != text:
                new = self._file.with_suffix(".new")
                new.write_text(text)
                new.rename(self._file)


def _targets(monitor: dict[str, Any], pod: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The targets of one pod, with the labels that a PodMonitor gives."""
    meta, address = pod["metadata"], pod["status"].get("podIP")
    selector = monitor["spec"]["selector"]
    labels = meta.get("labels", {})
    wanted = selector.get("matchLabels", {}).items() <= labels.items()
    wanted = wanted and all(one["operator"] == "Exists" and one["key"] in labels for one in selector.get("matchExpressions", []))
    if not wanted or not address or pod["status"]["phase"] != "Running":
        return
    ports = {port["name"]: port["containerPort"] for one in pod["spec"]["containers"] for port in one.get("ports", [])}
    for endpoint in monitor["spec"]["podMetricsEndpoints"]:
        if endpoint["port"] in ports:
            job = f"{meta['namespace']}/{monitor['metadata']['name']}"
            reported = {"namespace": meta["namespace"], "pod": meta["name"], "job": job}
            yield {"targets": [f"{address}:{ports[endpoint['port']]}"], "labels": reported}
