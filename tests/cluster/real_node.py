"""A node with real pods: containerd, kubelet, kube-proxy and DNS for a `ControlPlane`, and KubeRay and the
training-operator in pods.

The operator runs from its own image. The trainer's takes minutes to load, so only tests that ask for it have it. The other
containers share a small one and see this machine's /usr, the checkout and the Python environment, read-only and at their own
paths; what else is in a pod is that of production.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from control_plane import BIN, HERE, HOME, NODE, NODE_IP, ControlPlane, wait_for

ROOT = HERE.parents[1]
IMAGE = "docker.io/visionr1-test/pod:1"
OPERATOR = HOME.parent / "images/operator.tar"
"""What `tests/images/build.sh operator` has built of this checkout."""
OWN_FILES = "own-files"
"""Runtime class of containers that see nothing of this machine."""
PODS = "198.18.128.0/24"
CGROUP = f"visionr1-pods-{Path(tempfile.gettempdir()).name}"
"""As `down.sh` finds it: of this `inside.sh` and no other."""
_CGROUPS = Path("/sys/fs/cgroup")
_SEEN = ("/usr", str(ROOT), str(Path(sys.prefix)), str(Path(sys.executable).resolve().parents[1]), str(BIN))


class RealNode:
    """The daemons of one node, ended with the control plane."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane, self._folder = plane, plane.folder / "node"
        self._socket = self._folder / "containerd.sock"
        self._daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Brings the node up; it is Ready when this returns.

        Raises:
            TimeoutError: it is not; the logs are in the control plane's folder.
        """
        for name in ("cni", "kubelet"):
            (self._folder / name).mkdir(parents=True)
        self._write("cni/10-pods.conflist", _cni(self._folder))
        self._write("spec.json", _base_spec(_SEEN))
        self._write(f"{OWN_FILES}.json", _base_spec(()))
        (self._folder / "containerd.toml").write_text(_containerd(self._folder, self._socket))
        self._run("containerd", "containerd", "-c", str(self._folder / "containerd.toml"))
        image = self._folder / "image.tar"
        _write_image(image)
        wait_for("containerd", lambda: self._ctr("version").returncode == 0)
        self._ctr("images", "import", str(image)).check_returncode()
        self._run("coredns", "coredns", "-conf", self._write("Corefile", _COREFILE.format(admin=self._plane.admin)))
        self._write("proxy.json", _proxy(self._plane.admin))
        self._run("kube-proxy", "kube-proxy", f"--config={self._folder}/proxy.json")
        self._start_kubelet()
        meta = {"name": OWN_FILES}
        self._plane.apply({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": meta, "handler": OWN_FILES})
        wait_for("the node", lambda: "True" in self._plane.kubectl("get", "node", NODE, "-o", _READY, check=False), 90)

    def load(self, archive: Path) -> None:
        """Takes over an image that was built elsewhere; its name is in the archive."""
        self._ctr("images", "import", str(archive)).check_returncode()

    def load_trainer(self, name: str) -> None:
        """The CPU trainer that `tests/images/build.sh trainer-cpu` has built of this checkout."""
        archive = self._folder / "trainer.tar"
        image = "localhost/visionr1-test/trainer:checkout-cpu"
        subprocess.run(["buildah", "push", "--quiet", image, f"docker-archive:{archive}:docker.io/{name}"], check=True)
        self.load(archive)
        archive.unlink()

    def _ctr(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(["ctr", "-a", str(self._socket), "-n", "k8s.io", *arguments], capture_output=True)

    def _start_kubelet(self) -> None:
        """The kubelet; pods outlive it."""
        # The one hierarchy of version 2, or each of version 1.
        for procs in list(_CGROUPS.glob("cgroup.procs")) or _CGROUPS.glob("*/cgroup.procs"):
            (procs.parent / CGROUP).mkdir(exist_ok=True)
        self._write("kubelet.json", _kubelet(self._folder, self._socket))
        self._kubelet = self._run(
            "kubelet", "kubelet", f"--config={self._folder}/kubelet.json", f"--hostname-override={NODE}", f"--node-ip={NODE_IP}",
            f"--kubeconfig={self._plane.kubeconfig('kubelet', self._plane.node_token)}", f"--root-dir={self._folder}/kubelet",
            f"--cert-dir={self._folder}/kubelet/pki",
        )  # fmt: skip

    def lose_kubelet(self, seconds: float) -> None:
        """Nobody looks after the pods for so long; they go on by themselves."""
        self._kubelet.kill()
        self._kubelet.wait()
        time.sleep(seconds)
        self._start_kubelet()

    @contextmanager
    def memory_limit(self, pid: int) -> Iterator[Callable[[], bool]]:
        """Takes the room to grow from the container of a process; to be called until it is True: the kernel has killed there."""
        groups = dict(line.split(":", 2)[1:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
        if "memory" in groups:
            folder, names = _CGROUPS / f"memory{groups['memory']}", ("usage_in_bytes", "limit_in_bytes", "oom_control")
        else:
            folder, names = _CGROUPS / groups[""].lstrip("/"), ("current", "max", "events")
        usage, limit, reported = (folder / f"memory.{name}" for name in names)
        before = limit.read_text()

        def squeeze() -> bool:
            with suppress(OSError):  # what cannot be taken now
                limit.write_text(usage.read_text())
            return any(line.split()[0] == "oom_kill" and int(line.split()[1]) for line in reported.read_text().splitlines())

        yield squeeze
        with suppress(FileNotFoundError):  # the container has ended
            limit.write_text(before)

    def next_operator(self) -> str:
        """Another tag of the operator's image."""
        names = self._ctr("images", "list", "--quiet").stdout.decode().split()
        image = next(one for one in names if "/operator:" in one)
        self._ctr("images", "tag", "--force", image, f"{image.rpartition(':')[0]}:next").check_returncode()
        return "next"

    def close(self) -> None:
        """Ends daemons and pods, and takes their mounts away."""
        for daemon in reversed(self._daemons):
            daemon.kill()
            daemon.wait()
        for file in _CGROUPS.glob(f"**/{CGROUP}/**/cgroup.procs"):
            for pid in file.read_text().split():
                _kill(int(pid))
        for shim in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(FileNotFoundError, ProcessLookupError):
                if str(self._socket).encode() in shim.read_bytes():
                    _kill(int(shim.parent.name))
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for mount in sorted((one for one in mounts if one.startswith(f"{self._folder}/")), reverse=True):
            subprocess.run(["umount", "--lazy", mount], check=True)

    def _run(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        self._daemons.append(self._plane.start(name, *command))
        return self._daemons[-1]

    def _write(self, name: str, content: Any) -> str:
        path = self._folder / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)


def _base_spec(seen: Sequence[str]) -> dict[str, Any]:
    """What containers begin from; they see these folders of this machine."""
    spec: dict[str, Any] = json.loads(subprocess.run(["ctr", "oci", "spec"], check=True, capture_output=True).stdout)
    spec["process"].pop("rlimits", None)  # raising them needs CAP_SYS_RESOURCE, which not every machine gives
    for path in sorted(set(seen)):
        spec["mounts"].append({"destination": path, "type": "bind", "source": path, "options": ["rbind", "ro"]})
    return spec


def _kill(pid: int) -> None:
    if pid == 0:  # how a cgroup shows a process that is not in our namespace
        return
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


_READY = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
_COREFILE = ".:53 {{\n errors\n kubernetes cluster.local {{\n  kubeconfig {admin}\n }}\n cache 2\n}}\n"


@contextmanager
def whole_node(plane: ControlPlane) -> Iterator[RealNode]:
    """A node with the operator's image, cluster names that resolve, KubeRay and the training-operator."""
    node = RealNode(plane)
    try:
        node.start()
        node.load(OPERATOR)
        use_cluster_dns(plane.folder)
        install_operators(plane)
        yield node
    finally:
        node.close()


def install_operators(plane: ControlPlane, training_operator: Sequence[str] = (), kuberay: Sequence[str] = ()) -> None:
    """KubeRay and the training-operator from their own manifests, with these options too; ready when this returns."""
    options = ["--enable-scheme=pytorchjob", *training_operator]
    _install(plane, _manifests("training-operator", [str(BIN / "training-operator.v1")], options))
    _install(plane, _manifests("kuberay", [str(BIN / "ray-operator")], [*kuberay]))
    ready(plane, ("kubeflow", "training-operator"), ("default", "kuberay-operator"))


def install_trainer(plane: ControlPlane) -> None:
    """Kubeflow Trainer v2 and JobSet, on which it stands, in the same way; `build.sh soak` has built them."""
    _install(plane, _manifests("jobset", [str(BIN / "jobset")], []))
    _install(plane, _manifests("trainer", [str(BIN / "trainer-controller-manager")], []))
    jobset, trainer = "jobset-controller-manager", "kubeflow-trainer-controller-manager"
    ready(plane, ("jobset-system", jobset), ("kubeflow-system", trainer))


def install_kueue(plane: ControlPlane) -> None:
    """Kueue in the same way; `build.sh soak` has built it. Take it away again: its webhooks are asked about every pod."""
    # Its aggregated API would be asked whenever anything lists all kinds.
    _install(plane, [one for one in _manifests("kueue", [str(BIN / "kueue")], []) if one["kind"] != "APIService"])
    ready(plane, ("kueue-system", "kueue-controller-manager"))


def _install(plane: ControlPlane, manifests: list[dict[str, Any]]) -> None:
    plane.apply(*manifests)  # the tests on fake nodes have made some of it


def ready(plane: ControlPlane, *deployments: tuple[str, str]) -> None:
    """Waits until the Deployments of these namespaces and names are as they were last asked for."""
    for namespace, name in deployments:
        plane.kubectl("-n", namespace, "rollout", "status", f"deploy/{name}", "--timeout=120s")


def shipped(name: str) -> list[dict[str, Any]]:
    """Manifests as `build.sh` has rendered them."""
    manifests: list[dict[str, Any]] = json.loads((HOME / f"manifests/{name}.json").read_text())
    return manifests


def _manifests(name: str, command: list[str], arguments: list[str]) -> list[dict[str, Any]]:
    """The same with our image, and probes that do not wait."""
    manifests = shipped(name)
    for one in manifests:
        if one["kind"] == "Deployment":
            container = one["spec"]["template"]["spec"]["containers"][0]
            container.update(image=IMAGE, imagePullPolicy="IfNotPresent", command=command)
            container["args"] = container.get("args", []) + arguments
            for probe, delay in (("readinessProbe", 1), ("livenessProbe", 30)):
                container.get(probe, {}).update(initialDelaySeconds=delay, periodSeconds=3)
    return manifests


def _cni(folder: Path) -> dict[str, Any]:
    address = {
        "type": "host-local",
        "dataDir": str(folder / "cni/addresses"),
        "ranges": [[{"subnet": PODS}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": False, "hairpinMode": True, "ipam": address}
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}],
    }


def _containerd(folder: Path, socket: Path) -> str:
    return f"""
version = 2
root = "{folder}/containerd/root"
state = "{folder}/containerd/state"
oom_score = 0
[grpc]
  address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{IMAGE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  tolerate_missing_hugetlb_controller = true
  disable_hugetlb_controller = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      base_runtime_spec = "{folder}/spec.json"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{OWN_FILES}]
      runtime_type = "io.containerd.runc.v2"
      base_runtime_spec = "{folder}/{OWN_FILES}.json"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{OWN_FILES}.options]
        SystemdCgroup = false
"""


def _kubelet(folder: Path, socket: Path) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        # Nothing but this network namespace can reach it.
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": f"unix://{socket}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{CGROUP}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "clusterDNS": [NODE_IP],
        "clusterDomain": "cluster.local",
        "resolvConf": "",
        "podLogsDir": str(folder / "logs"),
        "address": NODE_IP,
        "healthzBindAddress": "127.0.0.1",
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "200Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "nodeStatusUpdateFrequency": "5s",
        "syncFrequency": "10s",
        "maxPods": 50,
        "serializeImagePulls": False,
    }


def _proxy(admin: Path) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "hostnameOverride": NODE,
        "clusterCIDR": PODS,
        "bindAddress": "0.0.0.0",
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "oomScoreAdj": 0,
        "clientConnection": {"kubeconfig": str(admin)},
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "nodePortAddresses": [f"{NODE_IP}/32"],
    }


def _write_image(path: Path) -> None:
    """A Docker archive of one layer: folders, links into /usr, names of users, and the process that holds a pod."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w", format=tarfile.GNU_FORMAT) as tar:

        def add(name: str, kind: bytes, *, link: str = "", mode: int = 0o755, data: bytes = b"") -> None:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.mode, entry.size = kind, link, mode, len(data)
            tar.addfile(entry, io.BytesIO(data))

        for name in ("dev", "etc", "home", "proc", "root", "run", "sys", "usr", "var"):
            add(name, tarfile.DIRTYPE)
        for name in ("tmp", "var/tmp"):
            add(name, tarfile.DIRTYPE, mode=0o1777)
        for name in ("bin", "lib", "lib64", "sbin"):
            add(name, tarfile.SYMTYPE, link=f"usr/{name}")
        people = {"root": 0, "user": 1000, "nonroot": 65532}
        passwd = "".join(f"{name}:x:{number}:{number}::/tmp:/bin/sh\n" for name, number in people.items())
        add("etc/passwd", tarfile.REGTYPE, mode=0o644, data=passwd.encode())
        add("etc/group", tarfile.REGTYPE, mode=0o644, data="".join(f"{n}:x:{i}:\n" for n, i in people.items()).encode())
        add("etc/nsswitch.conf", tarfile.REGTYPE, mode=0o644, data=b"hosts: files dns\n")
        add("pause", tarfile.REGTYPE, data=(BIN / "pause").read_bytes())
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Env": [f"PATH={Path(sys.prefix) / 'bin'}:/usr/local/bin:/usr/bin:/bin"],
            "Entrypoint": ["/pause"],
            "User": "65532",
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    parts = {
        "config.json": json.dumps(config).encode(),
        "layer.tar": layer.getvalue(),
        "manifest.json": json.dumps([{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]).encode(),
    }
    with tarfile.open(path, "w") as archive:
        for name, data in parts.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


def use_cluster_dns(folder: Path) -> None:
    """Lets this process and its children resolve the cluster's names; the mount ends with the namespaces of `inside.sh`."""
    made = folder / "resolv.conf"
    made.write_text(f"nameserver {NODE_IP}\n")
    subprocess.run(["mount", "--bind", str(made), os.path.realpath("/etc/resolv.conf")], check=True)
