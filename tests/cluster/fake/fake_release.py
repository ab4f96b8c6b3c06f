"""The chart on fake nodes, with the operator's real process in its fake pod's place."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from control_plane import ControlPlane, wait_for
from kubernetes import client, config
from release import CHART, Release
from urllib3.exceptions import HTTPError

from fake.controllers import Controllers, service_account

FAKE: dict[str, Any] = {
    "nodeSelector": {"kwok.x-k8s.io/node": "fake"},
    "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}],
}
STAGE = {"max_completion_tokens": 8, "group_size": 2, "steps": 6}
RECIPE: dict[str, Any] = {
    "preset": "demo",
    "algorithm": {"prompts_per_step": 2},
    "checkpoint": {"every": 2},
    "rollout": {"workers": 1},
    "stages": [STAGE, STAGE],
}


class FakeRelease(Release):
    """The chart with the operator on a fake node; while that pod is there, its process is, with the pod's own arguments.

    As the kubelet does, a thread starts it again when it has died, and asks it to end when the pod goes.

    Attributes:
        process: the operator's; None while its pod is not there.
        starts: how often it was started.
    """

    def __init__(self, plane: ControlPlane, namespace: str, port: int, server: str | None = None) -> None:
        super().__init__(plane, namespace)
        self.port, self._server = port, server
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        self._pod = ""
        self._closing = threading.Event()
        config.load_kube_config(str(plane.admin))
        self._core = client.CoreV1Api(client.ApiClient())
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self) -> FakeRelease:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()
        self._end()

    def install_fake(self, run: dict[str, Any] | None = None, *extra: str, **operator: Any) -> str:
        """`helm install`, with a run or none; the operator is there when this returns."""
        made = self.install_values(self.values(run, **operator), *extra)
        wait_for("the operator", lambda: self.process is not None, 30)
        return made

    def values(self, run: dict[str, Any] | None, **operator: Any) -> dict[str, Any]:
        spec = {"enabled": False} if run is None else {"name": "run", **self.spec("run", **run)}
        return {
            "operator": {**FAKE, "resyncSeconds": 3, **operator},
            "claim": {"mountPath": str(self.runs)},
            "run": spec,
        }

    def spec(self, name: str, **changes: Any) -> dict[str, Any]:
        """A run's, on fake nodes."""
        claim = {"name": "visionr1-runs", "mountPath": str(self.runs)}
        return {
            "recipe": RECIPE,
            "storage": {"url": f"{self.runs}/{name}", "claim": claim},
            "pods": {"image": "trainer:1", **FAKE},
            "sft": {"nodes": 2},
            "grpo": {"workersPerPod": 1},
            "retry": {"firstWaitSeconds": 1},
            "deadlines": {"stopSeconds": 20},
            **changes,
        }

    def create(self, *names: str, **changes: Any) -> None:
        """Runs of these names."""
        common = {"apiVersion": "visionr1.io/v1alpha1", "kind": "PTSTRun"}
        meta = {"namespace": self.namespace}
        runs = [{**common, "metadata": {**meta, "name": name}, "spec": self.spec(name, **changes)} for name in names]
        self.platform.apply(*runs)

    def kill_operator(self) -> None:
        """As the kernel does when memory is short."""
        process = wait_for("an operator", lambda: self.process if self.process and self.process.poll() is None else None)
        process.kill()

    def _keep(self) -> None:
        while not self._closing.wait(0.2):
            with suppress(HTTPError, client.ApiException, RuntimeError):  # the API server may be away: then all stays as it is
                self._look()

    def _look(self) -> None:
        found = self._core.list_namespaced_pod(self.namespace, label_selector="app.kubernetes.io/component=operator").items
        running = [one for one in found if one.status.phase == "Running" and one.metadata.deletion_timestamp is None]
        if self.process is not None and self._pod not in [one.metadata.uid for one in running]:
            self._end()
        if running and (self.process is None or self.process.poll() is not None):
            self._pod, container = running[0].metadata.uid, running[0].spec.containers[0]
            account = service_account(self.platform, self.namespace, running[0].spec.service_account_name, self._server)
            words = [*container.args, f"--port={self.port}"]
            command = [sys.executable, "-m", "ptst_operator.main", *words]
            environment = {
                "KUBECONFIG": str(account),
                "POD_NAMESPACE": self.namespace,
                "PYTHONPATH": str(CHART.parents[1] / "operators"),
            }
            self.process = self.platform.start(f"operator-{self.namespace}", *command, **environment)
            self.starts += 1

    def _end(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(30)
            finally:
                self.process.kill()
            self.process = None

    def log(self) -> str:
        """The operator's last words."""
        file = self.platform.folder / f"operator-{self.namespace}.log"
        return file.read_text()[-6000:] if file.exists() else ""


Make = Callable[..., FakeRelease]
"""Of the fixture `release_in`: a release in a namespace, whose operator may ask another server than the API server."""


def ended(release: Release, names: list[str], seconds: float) -> dict[str, dict[str, Any]]:
    """The statuses of runs, once all of them have succeeded."""

    def looked() -> Any:
        runs = {one["metadata"]["name"]: one.get("status", {}) for one in release.get("ptst")["items"]}
        failed = [name for name in names if runs[name].get("phase") == "Failed"]
        assert not failed, f"{failed}: {json.dumps(runs[failed[0]].get('conditions'), indent=1)}"
        return runs if all(runs[name].get("phase") == "Succeeded" for name in names) else None

    end, error = time.monotonic() + seconds, None
    while time.monotonic() < end:
        try:
            if found := looked():
                return dict(found)
        except RuntimeError as caught:  # the API server is away
            error = caught
        time.sleep(0.3)
    raise TimeoutError(
        f"not ended within {seconds:.0f} s ({error}):\n{release.kubectl('get', 'ptst,pods', check=False)}\n{release.log()}"
    )


def check_undisturbed(controllers: Controllers, release: FakeRelease, names: list[str]) -> None:
    """Every run went through its phases in order, one process at a time, each child made once, no attempt without a result."""
    assert controllers.reported(release.namespace, "overlap") == []
    began = controllers.reported(release.namespace)
    for name in names:
        begun = [one["phase"] for one in began if one["run"] == f"{release.namespace}/{name}"]
        chain = ["coldstart", "sft", "stage-1", "stage-2", "evaluate"]
        # The Job controller may make a pod twice when the API server goes away meanwhile; Kubernetes says so itself.
        once = [phase for phase in begun if phase not in ("coldstart", "evaluate")]
        assert list(dict.fromkeys(begun)) == chain and once == chain[1:-1], f"{name}: {begun}"
        status = release.status(name)
        assert [(one["name"], one["attemptsBegun"], one["complete"]) for one in status["phases"]] == [
            (phase, 1, True) for phase in chain
        ]
        assert [one["step"] for one in release.steps(name)] == list(range(1, 13))
