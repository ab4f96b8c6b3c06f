"""A real control plane with fake nodes, as plain processes; `real_node` adds a node with real pods.

`build.sh` must have built the binaries, and the process must run under `inside.sh`: ports and addresses are fixed. Nothing is
left when it is closed.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
HOME = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "visionr1-ptst/cluster"
BIN = HOME / "bin"
NODE_IP = "198.18.255.1"
API = f"https://{NODE_IP}:6443"
NODE = "node-1"


def tool(name: str) -> str:
    """Our own build of a command, else the one on the PATH."""
    return str(BIN / name) if (BIN / name).exists() else name


def wait_for(what: str, check: Callable[[], Any], seconds: float = 60.0, every: float = 0.2) -> Any:
    """The first true answer of `check`."""
    end = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(every)


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

    def define(self, definitions: Path) -> None:
        """Definitions in a folder, and the API server knows them when this returns."""
        self.kubectl("apply", "--server-side", "-f", str(definitions))
        # A definition that has no conditions yet is an error to `kubectl wait`.
        wait = ("wait", "--for=condition=established", "-f", str(definitions), "--timeout=10s")
        wait_for("its definitions", lambda: "condition met" in self.kubectl(*wait, check=False), 30)


def helm(cluster: Cluster, *arguments: str) -> str:
    """What helm prints.

    Raises:
        RuntimeError: it failed, with its words.
    """
    command = [tool("helm"), *arguments, "--kubeconfig", str(cluster.admin)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HOME": "/nowhere"})
    if done.returncode:
        raise RuntimeError(f"helm {' '.join(arguments)}: {done.stderr}")
    return done.stdout


class ControlPlane(Cluster):
    """A control plane of our own. Use as a context manager."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="visionr1-cluster-")
        self.folder = Path(self._folder.name)
        super().__init__(self.folder / "admin.json")
        self._processes: list[subprocess.Popen[bytes]] = []
        self._token, self.node_token = secrets.token_hex(16), secrets.token_hex(16)
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
        """Ends every process, the youngest first, and removes their files; logs are copied into VISIONR1_CLUSTER_LOGS before."""
        for process in reversed(self._processes):
            process.send_signal(signal.SIGKILL)
            process.wait()
        if kept := os.environ.get("VISIONR1_CLUSTER_LOGS"):
            for log in self.folder.glob("*.log"):
                shutil.copy(log, kept)
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

    def _start(self) -> None:
        key, folder = self.folder / "sa.key", self.folder
        subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
        users = f'{self._token},admin,admin,"system:masters"\n{self.node_token},system:node:{NODE},{NODE},"system:nodes"\n'
        (folder / "tokens.csv").write_text(users)
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
            f"--root-ca-file={folder}/pki/apiserver.crt", f"--cert-dir={folder}/kcm",
        )  # fmt: skip
        self.start("scheduler", "kube-scheduler", *common, f"--cert-dir={folder}/scheduler")
        self.start(
            "kwok", "kwok", f"--kubeconfig={self.admin}", "--manage-all-nodes=false",
            "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake", f"--config={HERE}/kwok.yaml",
            "--cidr=198.18.0.0/17", f"--node-ip={NODE_IP}", "--node-lease-duration-seconds=40",
        )  # fmt: skip
        nodes = [fake_node(f"fake-{number}") for number in range(4)]
        self.kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": nodes}))
        wait_for("service account", lambda: "default" in self.kubectl("get", "sa", "default", check=False))

    def lose_api_server(self, seconds: float) -> None:
        """Kills the API server, and starts another after a while; it is ready when this returns."""
        self._api_server.kill()
        self._api_server.wait()
        self._processes.remove(self._api_server)
        time.sleep(seconds)
        self._api_server = self._start_api_server()
        self._wait_for_api_server()

    @contextmanager
    def silent_api_server(self) -> Iterator[None]:
        """An API server that keeps its connections and says nothing."""
        self._api_server.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._api_server.send_signal(signal.SIGCONT)

    def _wait_for_api_server(self) -> None:
        wait_for("API server", lambda: self.kubectl("get", "--raw", "/readyz", check=False).strip() == "ok", 120)

    def _start_api_server(self) -> subprocess.Popen[bytes]:
        key, folder = self.folder / "sa.key", self.folder
        return self.start(
            "apiserver", "kube-apiserver", "--etcd-servers=http://127.0.0.1:2379", "--bind-address=0.0.0.0",
            f"--advertise-address={NODE_IP}", f"--cert-dir={folder}/pki", f"--token-auth-file={folder}/tokens.csv",
            "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}",
            "--service-cluster-ip-range=198.19.0.0/16", "--enable-aggregator-routing=true",
            "--kubelet-preferred-address-types=InternalIP",
            f"--audit-policy-file={folder}/audit.json", f"--audit-log-path={self.audit}",
            "--audit-log-maxsize=10000",
        )  # fmt: skip


def fake_node(name: str) -> dict[str, Any]:
    size = {"cpu": "64", "memory": "512Gi", "pods": "200", "nvidia.com/gpu": "8"}
    ready = {"type": "Ready", "status": "True", "reason": "Fake", "message": "a fake node"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/hostname": name, "kwok.x-k8s.io/node": "fake"},
            "annotations": {"kwok.x-k8s.io/node": "fake"},
        },
        "spec": {"taints": [{"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}]},
        "status": {"allocatable": size, "capacity": size, "conditions": [ready], "phase": "Running"},
    }
