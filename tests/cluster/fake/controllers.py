"""KubeRay and the training-operator as plain processes with their own rights, and what plays the training."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from control_plane import BIN, HERE, HOME, NODE_IP, ControlPlane, wait_for

_CERTIFICATE = ("tls.crt", "tls.key", "ca.crt", "ca.key")


class Controllers:
    """The two controllers, and what plays the training; `close` ends them and leaves their definitions."""

    def __init__(self, plane: ControlPlane, pace: float = 0.15) -> None:
        self.plane, self.history = plane, plane.folder / "history.log"
        self._pace = pace
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """All of them are ready when this returns."""
        for name in ("training-operator", "kuberay"):
            manifests = json.loads((HOME / f"manifests/{name}.json").read_text())
            self.plane.apply(*(_without_pods(one) for one in manifests if one["kind"] != "Deployment"))
        self.plane.apply(_ENDPOINT)
        self.start_training_operator()
        self.start_kuberay()
        self._run(
            "training", sys.executable, str(HERE / "fake/training.py"), str(self.plane.admin), str(self.history), str(self._pace)
        )

    def start_kuberay(self) -> None:
        kubeconfig = service_account(self.plane, "default", "kuberay-operator")
        self._run(
            "kuberay", str(BIN / "ray-operator"), f"--kubeconfig={kubeconfig}", "--metrics-addr=127.0.0.1:8090",
            "--health-probe-bind-address=127.0.0.1:8092", "--enable-leader-election=false", "--use-kubernetes-proxy=true",
            "--feature-gates=RayClusterStatusConditions=true", "--reconcile-concurrency=4",
        )  # fmt: skip

    def start_training_operator(self) -> None:
        """In its own /tmp, because the folder of its certificate is written into it."""
        folder = self.plane.folder / "training-operator"
        certificate = folder / "k8s-webhook-server/serving-certs"
        certificate.mkdir(parents=True, exist_ok=True)
        kubeconfig = service_account(self.plane, "kubeflow", "training-operator")
        shutil.copy(BIN / "training-operator.v1", folder)
        (folder / "kubeconfig").write_text(kubeconfig.read_text())
        command = [
            "/tmp/training-operator.v1", "--kubeconfig=/tmp/kubeconfig", "--enable-scheme=pytorchjob",
            "--metrics-bind-address=127.0.0.1:8094", "--health-probe-bind-address=127.0.0.1:8081", "--webhook-server-port=9443",
        ]  # fmt: skip
        alone = ("unshare", "--mount", "sh", "-c", f'mount --bind {folder} /tmp && cd / && exec "$@"', "sh")
        self._run("training-operator", *alone, *command, MY_POD_NAMESPACE="kubeflow", TMPDIR="/tmp")
        # The kubelet would put the Secret there, which the operator fills.
        wait_for("its certificate", lambda: len(found := self._certificate()) == len(_CERTIFICATE) and _write(certificate, found))
        wait_for(
            "its webhook",
            lambda: subprocess.run(["curl", "-sf", "http://127.0.0.1:8081/readyz"], capture_output=True).returncode == 0,
        )

    def _certificate(self) -> dict[str, str]:
        data = self.plane.get("-n", "kubeflow", "secret", "training-operator-webhook-cert").get("data", {})
        return {name: data[name] for name in _CERTIFICATE if name in data}

    def end(self, name: str) -> None:
        """Ends one by SIGKILL."""
        process = self._processes.pop(name)
        process.kill()
        process.wait()

    def close(self) -> None:
        for name in list(self._processes):
            self.end(name)
        self.plane.kubectl("-n", "kubeflow", "delete", "endpointslice", "training-operator-1")

    def _run(self, name: str, *command: str, **environment: str) -> None:
        self._processes[name] = self.plane.start(name, *command, **environment)

    def reported(self, namespace: str, event: str = "began") -> list[dict[str, Any]]:
        """The part of the history about a namespace's runs."""
        lines = [json.loads(line) for line in self.history.read_text().splitlines()] if self.history.exists() else []
        return [one for one in lines if one["run"].startswith(f"{namespace}/") and one["event"] == event]


def _without_pods(manifest: dict[str, Any]) -> dict[str, Any]:
    """A Service with addresses that we name ourselves."""
    if manifest["kind"] == "Service":
        manifest["spec"].pop("selector", None)
    return manifest


_ENDPOINT = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {
        "name": "training-operator-1",
        "namespace": "kubeflow",
        "labels": {"kubernetes.io/service-name": "training-operator"},
    },
    "addressType": "IPv4",
    "ports": [{"name": "webhook-server", "port": 9443, "protocol": "TCP"}],
    "endpoints": [{"addresses": [NODE_IP], "conditions": {"ready": True}}],
}


def _write(folder: Path, files: dict[str, str]) -> bool:
    for name, text in files.items():
        (folder / name).write_bytes(base64.b64decode(text))
    return True


def service_account(plane: ControlPlane, namespace: str, name: str, server: str | None = None) -> Path:
    """A kubeconfig with the rights of a service account, which may ask another server than the API server itself."""
    token = plane.kubectl("-n", namespace, "create", "token", name, "--duration=24h").strip()
    made = json.loads(plane.kubeconfig(f"{namespace}-{name}", token, namespace).read_text())
    cluster = made["clusters"][0]["cluster"]
    cluster["certificate-authority-data"] = base64.b64encode(Path(cluster.pop("certificate-authority")).read_bytes()).decode()
    if server is not None:
        made["clusters"][0]["cluster"] = {"server": server}
    path = plane.folder / f"{namespace}-{name}.json"
    path.write_text(json.dumps(made))
    return path
