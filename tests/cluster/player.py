"""Plays what runs inside the pods: a Ray dashboard, and phases that commit real checkpoints of nothing.

Every address of a fake pod is this machine, so one server answers as the dashboard of all heads, and one as all drivers.
"""

from __future__ import annotations

import json
import shlex
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from control_plane import ControlPlane, wait_for

from visionr1.recipe import Phase, phases
from visionr1.storage import Checkpoints, open_store
from visionr1.storage.layout import COLDSTART_MANIFEST, eval_key
from visionr1.storage.run_recipe import read_recipe

DASHBOARD_PORT, METRICS_PORT = 8265, 9464


class Player(threading.Thread):
    """Runs until `close`.

    Attributes:
        seconds_a_step: how long a step of SFT or GRPO takes.
        starts: (run directory, phase, newest committed step) of every process that was started, in order.
        codes: what the next processes of a phase end with instead of working: `{"sft": [64]}`.
        overlaps: phases of one run directory that ran at a time; must stay empty.
    """

    def __init__(self, plane: ControlPlane, namespace: str, seconds_a_step: float = 0.05) -> None:
        super().__init__(name="player", daemon=True)
        self._plane, self._namespace, self.seconds_a_step = plane, namespace, seconds_a_step
        self.starts: list[tuple[str, str, int | None]] = []
        self.codes: dict[str, list[int]] = {}
        self.overlaps: list[tuple[str, str, str]] = []
        self.jobs: dict[str, dict[str, Any]] = {}
        self._busy: dict[str, str] = {}
        self._pods: dict[str, bool] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._servers = [_serve(DASHBOARD_PORT, self._dashboard), _serve(METRICS_PORT, self._metrics)]

    def close(self) -> None:
        self._closed.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def run(self) -> None:
        while not self._closed.wait(0.3):
            try:
                pods = self._plane.get("-n", self._namespace, "pods", "-l", "visionr1.io/run")["items"]
            except (RuntimeError, ValueError):
                continue  # the API server is away
            alive = set()
            for pod in pods:
                uid, role = pod["metadata"]["uid"], pod["metadata"]["labels"]["visionr1.io/role"]
                going = "deletionTimestamp" in pod["metadata"]
                if pod["status"].get("phase") == "Running" and role not in ("head", "worker") and not going:
                    alive.add(uid)
                    if uid not in self._pods:
                        self._pods[uid] = True
                        threading.Thread(target=self._run_pod, args=(pod,), daemon=True).start()
            for uid in self._pods:
                self._pods[uid] = uid in alive
            heads = {
                pod["metadata"]["labels"].get("ray.io/cluster") for pod in pods if "deletionTimestamp" not in pod["metadata"]
            }
            for job in self.jobs.values():
                if job["status"] == "RUNNING" and job["cluster"] not in heads:
                    job["alive"] = False  # its head pod is gone, and the driver with it

    def _run_pod(self, pod: dict[str, Any]) -> None:
        meta = pod["metadata"]
        command = pod["spec"]["containers"][0]["command"]
        code = self._work(command, lambda: self._pods[meta["uid"]])
        if code is not None:
            words = ("-n", self._namespace, "annotate", "pod", meta["name"], f"visionr1.io/exit={code}")
            wait_for("the API server", lambda: "annotated" in self._plane.kubectl(*words, check=False))

    def _run_job(self, job: dict[str, Any]) -> None:
        code = self._work(shlex.split(job["entrypoint"]), lambda: bool(job["alive"]), lambda: bool(job["stop"]))
        if code is None:
            job |= {"status": "FAILED", "message": "the head is gone"}
        elif job["stop"]:
            job["status"] = "STOPPED"
        elif code:
            said = f"Job entrypoint command failed with exit code {code}. No logs available."
            job |= {"status": "FAILED", "message": said}
        else:
            job["status"] = "SUCCEEDED"

    def _work(self, command: list[str], alive: Any, stop: Any = lambda: False) -> int | None:
        """A phase's process; gives its exit code, None if it was killed."""
        url = command[command.index("--run") + 1]
        store = open_store(url)
        recipe = read_recipe(store)
        kind = {"coldstart": "coldstart", "sft": "sft", "grpo": "grpo", "eval": "evaluate"}[command[1]]
        number = int(command[command.index("--stage") + 1]) - 1 if kind == "grpo" else None
        phase = next(one for one in phases(recipe) if (one.kind, one.stage_index) == (kind, number))
        checkpoints = Checkpoints(store, phase.name)
        with self._lock:
            if url in self._busy:
                self.overlaps.append((url, self._busy[url], phase.name))
            self._busy[url] = phase.name
            self.starts.append((url, phase.name, checkpoints.latest()))
        try:
            if self.codes.get(phase.name):
                return self.codes[phase.name].pop(0)
            return self._train(phase, url, alive, stop)
        finally:
            with self._lock:
                self._busy.pop(url, None)

    def _train(self, phase: Phase, url: str, alive: Any, stop: Any) -> int | None:
        store = open_store(url)
        recipe = read_recipe(store)
        checkpoints = Checkpoints(store, phase.name)
        if phase.kind == "coldstart":
            store.write_bytes(COLDSTART_MANIFEST, b"{}")
            return 0
        if phase.kind == "evaluate":
            assert phase.input_phase is not None
            step = Checkpoints(store, phase.input_phase).latest()
            store.write_bytes(eval_key(phase.input_phase), json.dumps({"phase": phase.input_phase, "step": step}).encode())
            return 0
        last = phase.first_step + (recipe.stages[phase.stage_index].steps if phase.stage_index is not None else 3)
        for step in range((checkpoints.latest() or phase.first_step) + 1, last + 1):
            end = time.monotonic() + self.seconds_a_step
            while time.monotonic() < end:
                time.sleep(0.1)
                if not alive():
                    return None
            folder = checkpoints.staging(step)
            (folder / "weights").write_bytes(b"w")
            checkpoints.commit(step, checkpoints.publish(step, folder, ["weights"]), {"final": step == last})
            self._newest = step
            if stop() and step < last:
                return 3
        return 0

    _newest = 0

    def _dashboard(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if path.startswith("/api/jobs"):
            name, _, verb = path.removeprefix("/api/jobs").strip("/").partition("/")
            if method == "POST" and not name:
                return self._submit(json.loads(body))
            job = self.jobs.get(name)
            if job is None:
                return (200, b"[]") if not name else (404, b"no such job")
            if verb == "stop":
                job["stop"] = True
                return 200, b'{"stopped": true}'
            return 200, json.dumps(job).encode()
        return 200, b"{}"

    def _submit(self, asked: dict[str, Any]) -> tuple[int, bytes]:
        name = asked.get("submission_id") or f"job-{len(self.jobs)}"
        cluster = str((asked.get("metadata") or {}).get("cluster") or self._only_cluster())
        if name not in self.jobs:
            job = {
                "type": "SUBMISSION", "submission_id": name, "job_id": "01000000", "status": "RUNNING", "message": "",
                "entrypoint": asked["entrypoint"], "start_time": int(time.time() * 1000),
                "alive": True, "stop": False, "cluster": cluster,
            }  # fmt: skip
            self.jobs[name] = job
            threading.Thread(target=self._run_job, args=(job,), daemon=True).start()
        return 200, json.dumps({"submission_id": name, "job_id": name}).encode()

    def _only_cluster(self) -> str:
        """The newest RayCluster; a submission does not say where it goes."""
        found = self._plane.get("-n", self._namespace, "rayclusters")["items"]
        return str(max(found, key=lambda one: one["metadata"]["creationTimestamp"])["metadata"]["name"])

    def _metrics(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        labels = 'run="r",stage="1",role="driver"'
        lines = [
            f"visionr1_step{{{labels}}} {self._newest}",
            f"visionr1_reward_mean{{{labels}}} 0.625",
            f"visionr1_completion_tokens_mean{{{labels}}} 41.5",
            f'visionr1_step_seconds{{{labels},phase="rollout"}} 2.0',
        ]
        return 200, "\n".join([*lines, ""]).encode()


def _serve(port: int, answer: Any) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, said = answer(self.command, self.path.partition("?")[0], body)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_POST = do_DELETE = _handle

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("0.0.0.0", port), Handler)
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    return server
