"""The chart in a namespace of the test cluster, with the operator as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from control_plane import ControlPlane, tool, wait_for
from player import Player

CHART = Path(__file__).parents[2] / "charts/visionr1-ptst"
STAGE = {"max_completion_tokens": 8, "group_size": 2, "steps": 4}


@dataclass
class Platform:
    """The chart in a namespace, the operator as a process with the chart's own rights, and somebody who plays the pods."""

    plane: ControlPlane
    namespace: str
    runs: Path
    player: Player
    operators: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def helm(self, *arguments: str) -> str:
        environment = {**os.environ, "KUBECONFIG": str(self.plane.folder / "admin.json"), "HOME": str(self.plane.folder)}
        done = subprocess.run(
            [tool("helm"), "--namespace", self.namespace, *arguments], capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def install(self, *settings: str) -> str:
        """`helm install` with the demo's values, a run directory on this machine, and what `settings` change."""
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"{self.namespace}-runs"},
            "spec": {
                "capacity": {"storage": "10Gi"},
                "accessModes": ["ReadWriteMany"],
                "claimRef": {"namespace": self.namespace, "name": "visionr1-runs"},
                "hostPath": {"path": str(self.runs)},
            },
        }
        self.plane.apply(volume)
        where = [f"claim.mountPath={self.runs}", f"run.storage.claim.mountPath={self.runs}", f"run.storage.url={self.runs}/demo"]
        sets = [word for setting in [*where, *settings] for word in ("--set", setting)]
        return self.helm("install", "ptst", str(CHART), "-f", str(CHART / "presets/cpu-demo.yaml"), "--set-json", _STAGES, *sets)

    def start_operator(self) -> subprocess.Popen[bytes]:
        config = self.plane.service_account(self.namespace, "ptst-operator")
        port = 18080 + len(self.operators)
        process = self.plane.start(
            f"operator-{self.namespace}", sys.executable, "-m", "ptst_operator.main", "--namespace", self.namespace,
            "--port", str(port), "--resync", "3", KUBECONFIG=str(config),
        )  # fmt: skip
        self.operators.append(process)
        wait_for("operator", lambda: self._ready(port), 90)
        return process

    def _ready(self, port: int) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def run(self, name: str = "demo") -> Any:
        return self.plane.get("-n", self.namespace, "ptst", name)

    def phase(self) -> str:
        return str(self.run().get("status", {}).get("phase", ""))

    def wait_phase(self, phase: str, seconds: float = 120) -> None:
        try:
            wait_for(f"phase {phase}", lambda: self.phase() == phase, seconds)
        except TimeoutError as error:
            log = (self.plane.folder / f"operator-{self.namespace}.log").read_text()[-3000:]
            described = self.plane.kubectl("-n", self.namespace, "describe", "ptst", check=False)
            children = self.plane.kubectl("-n", self.namespace, "get", "pytorchjobs,rayclusters,rayjobs,jobs,pods", check=False)
            raise AssertionError(f"{error}\n{described}\n{children}\n{log}") from None

    def children(self) -> list[str]:
        listed = self.plane.kubectl("-n", self.namespace, "get", "pytorchjobs,rayclusters,rayjobs,jobs,pods", "-o", "name")
        return [line for line in listed.splitlines() if "/" in line]


_STAGES = "run.recipe.stages=" + json.dumps([STAGE, {**STAGE, "max_completion_tokens": 8}])
