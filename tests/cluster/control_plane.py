"""A real control plane with fake nodes, and the real KubeRay and training-operator beside it, as plain processes.

`build.sh` must have built the binaries, and the process must run under `inside.sh`: ports and addresses are fixed. Nothing is
left when it is closed.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
HOME = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "visionr1-ptst/cluster"
BIN = HOME / "bin"
API = "https://127.0.0.1:6443"
NODE_IP = "198.18.255.1"
WEBHOOK_CERTIFICATES = Path("/tmp/k8s-webhook-server/serving-certs")
"""Where the training-operator looks for its certificate, whatever it is told."""


def tool(name: str) -> str:
    """Our own build of a command, else the one on the PATH."""
    return str(BIN / name) if (BIN / name).exists() else name


def wait_for(what: str, check: Callable[[], Any], seconds: float = 60.0) -> Any:
    """The first true answer of `check`."""
    end = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.2)


class Cluster:
    """Any cluster, by the kubeconfig of somebody who may do everything."""

    def __init__(self, kubeconfig: Path) -> None:
        self.admin = kubeconfig

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """What kubectl prints, errors included."""
        done = subprocess.run(
            [tool("kubectl"), "--kubeconfig", str(self.admin), *arguments], input=stdin, capture_output=True, text=True
        )
        if check and done.returncode:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr}")
        return done.stdout + done.stderr

    def get(self, *arguments: str) -> Any:
        """`kubectl get ... -o json`."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, *manifests: dict[str, Any]) -> None:
        """Server-side apply."""
        items = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=items)


class ControlPlane(Cluster):
    """A control plane of our own. Use as a context manager."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="visionr1-cluster-")
        self.folder = Path(self._folder.name)
        super().__init__(self.folder / "admin.json")
        self._processes: list[subprocess.Popen[bytes]] = []
        self._token = secrets.token_hex(16)
        self.audit = self.folder / "audit.log"

    def __enter__(self) -> ControlPlane:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends every process, the youngest first, and removes their files."""
        for process in reversed(self._processes):
            process.send_signal(signal.SIGKILL)
            process.wait()
        self._folder.cleanup()

    def start(self, name: str, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        """A process of the cluster, with a log of its own."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [tool(command[0]), *command[1:]],
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
                cwd=self.folder,
            )
        self._processes.append(process)
        return process

    def kubeconfig(self, name: str, token: str, namespace: str = "default") -> Path:
        """A kubeconfig for a token."""
        path = self.folder / f"{name}.json"
        made = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "c", "cluster": {"server": API, "certificate-authority": str(self.folder / "pki/apiserver.crt")}}
            ],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": namespace}}],
            "current-context": "x",
        }
        path.write_text(json.dumps(made))
        return path

    def service_account(self, namespace: str, name: str) -> Path:
        """A kubeconfig with the rights of a service account."""
        token = self.kubectl("-n", namespace, "create", "token", name, "--duration=24h").strip()
        return self.kubeconfig(f"{namespace}-{name}", token, namespace)

    def _start(self) -> None:
        key, folder = self.folder / "sa.key", self.folder
        subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
        (folder / "tokens.csv").write_text(f'{self._token},admin,admin,"system:masters"\n')
        policy = {
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived"],
            "rules": [{"level": "Metadata"}],
        }
        (folder / "audit.json").write_text(json.dumps(policy))
        client = "http://127.0.0.1:2379"
        self.start(
            "etcd", "etcd", "--data-dir", str(folder / "etcd"), "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", "http://127.0.0.1:2380", "--unsafe-no-fsync", "--log-level", "warn",
        )  # fmt: skip
        self._api_server = self._start_api_server()
        self.kubeconfig("admin", self._token)
        self._wait_for_api_server()
        common = (f"--kubeconfig={self.admin}", "--leader-elect=false", "--bind-address=127.0.0.1")
        self.start(
            "controllers", "kube-controller-manager", *common, f"--service-account-private-key-file={key}",
            f"--root-ca-file={folder}/pki/apiserver.crt", "--controllers=*,-node-lifecycle-controller",
            f"--cert-dir={folder}/kcm",
        )  # fmt: skip
        self.start("scheduler", "kube-scheduler", *common, f"--cert-dir={folder}/scheduler")
        self.start(
            "kwok", "kwok", f"--kubeconfig={self.admin}", "--manage-all-nodes=true", f"--config={HERE}/kwok.yaml",
            "--cidr=198.18.0.0/17", f"--node-ip={NODE_IP}",
        )  # fmt: skip
        nodes = [_node(f"fake-{number}") for number in range(4)]
        self.kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": nodes}))
        wait_for("service account", lambda: "default" in self.kubectl("get", "sa", "default", check=False))

    def restart_api_server(self) -> None:
        """Kills it, and waits until a new one answers."""
        self._api_server.kill()
        self._api_server.wait()
        self._api_server = self._start_api_server()
        self._wait_for_api_server()

    def _wait_for_api_server(self) -> None:
        wait_for("API server", lambda: self.kubectl("get", "--raw", "/readyz", check=False).strip() == "ok", 120)

    def _start_api_server(self) -> subprocess.Popen[bytes]:
        key, folder = self.folder / "sa.key", self.folder
        return self.start(
            "apiserver", "kube-apiserver", "--etcd-servers=http://127.0.0.1:2379", "--bind-address=127.0.0.1",
            f"--advertise-address={NODE_IP}", f"--cert-dir={folder}/pki", f"--token-auth-file={folder}/tokens.csv",
            "--authorization-mode=RBAC", "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}",
            "--service-cluster-ip-range=198.19.0.0/16", "--enable-aggregator-routing=true",
            f"--audit-policy-file={folder}/audit.json", f"--audit-log-path={self.audit}",
        )  # fmt: skip

    def start_operators(self) -> None:
        """KubeRay and the training-operator, from their own manifests."""
        for name in ("training-operator", "kuberay"):
            self.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(_without_pods(name)))
        address = {
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
        self.apply(address)
        WEBHOOK_CERTIFICATES.mkdir(parents=True, exist_ok=True)
        self.start(
            "training-operator", "training-operator.v1", f"--kubeconfig={self.admin}", "--enable-scheme=pytorchjob",
            "--metrics-bind-address=:8080", "--health-probe-bind-address=:8081", "--webhook-server-port=9443",
            MY_POD_NAMESPACE="kubeflow",
        )  # fmt: skip
        secret = ("-n", "kubeflow", "get", "secret", "training-operator-webhook-cert", "-o", "json")
        # What the kubelet does for a Secret's volume: the operator fills the Secret, then waits for the files.
        found = wait_for("webhook certificate", lambda: json.loads(self.kubectl(*secret)).get("data"))
        for name, content in found.items():
            (WEBHOOK_CERTIFICATES / name).write_bytes(base64.b64decode(content))
        self.start(
            "kuberay", "ray-operator", f"--kubeconfig={self.admin}", "--metrics-addr=127.0.0.1:8090",
            "--health-probe-bind-address=127.0.0.1:8092", "--enable-leader-election=false", "--use-kubernetes-proxy=true",
        )  # fmt: skip
        # The webhook answers once the operator works.
        wait_for("training-operator", lambda: "must have at least one container" in self.kubectl(
            "create", "--dry-run=server", "-f", "-", stdin=json.dumps(_BAD_JOB), check=False))  # fmt: skip


def _node(name: str) -> dict[str, Any]:
    size = {"cpu": "64", "memory": "512Gi", "pods": "200", "nvidia.com/gpu": "8"}
    ready = {"type": "Ready", "status": "True", "reason": "Fake", "message": "a fake node"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": size, "capacity": size, "conditions": [ready], "phase": "Running"},
    }


_BAD_JOB = {
    "apiVersion": "kubeflow.org/v1",
    "kind": "PyTorchJob",
    "metadata": {"name": "bad", "namespace": "default"},
    "spec": {
        "pytorchReplicaSpecs": {
            "Master": {"replicas": 1, "template": {"spec": {"containers": [{"name": "wrong", "image": "x"}]}}},
        },
    },
}
_WANTED_DEFINITIONS = ("pytorchjobs.", "rayclusters.", "rayjobs.", "rayservices.", "raycronjobs.")


def _without_pods(name: str) -> dict[str, Any]:
    """An operator's own manifests without its Deployment and the definitions that are not used; parsed once, then cached."""
    cached = HOME / f"manifests/{name}.json"
    source = HOME / f"manifests/{name}.yaml"
    if not cached.exists() or cached.stat().st_mtime < source.stat().st_mtime:
        items = []
        for one in yaml.load_all(source.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if not one or one["kind"] == "Deployment":
                continue
            if one["kind"] == "CustomResourceDefinition" and not one["metadata"]["name"].startswith(_WANTED_DEFINITIONS):
                continue
            if one["kind"] == "Service":
                one["spec"].pop("selector", None)  # we say where it is
            items.append(one)
        cached.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    made: dict[str, Any] = json.loads(cached.read_text())
    return made
