"""What the containers of a run's fake pods would do: they commit checkpoints, log steps and end. A process of its own.

A run's pods do their phase as the real commands do, in steps of a fraction of a second; the head of a RayCluster answers Ray's
job API and serves the driver's metrics. Whatever begins and ends is a line of the history, and a second process of the same run
beside a first is reported there as an overlap.

Usage: training.py KUBECONFIG HISTORY SECONDS_A_STEP
"""

from __future__ import annotations

import json
import shlex
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from kubernetes import client, config
from urllib3.exceptions import HTTPError

from visionr1.errors import EXIT_FENCED, Fenced
from visionr1.recipe import Phase, Recipe, StagePhase, phases, stage_phase
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.layout import COLDSTART_MANIFEST, eval_key
from visionr1.rundir.recipe import read_recipe
from visionr1.rundir.steplog import StepLog
from visionr1.rundir.takeover import take_over
from visionr1.storage import Store, open_store

SFT_STEPS = 4
DASHBOARD, METRICS = 8265, 9464
_BUSY = ("coldstart", "sft", "evaluate")
_COMMANDS = {"coldstart": "coldstart", "sft": "sft", "eval": "evaluate"}
Manifest = dict[str, Any]


@dataclass
class History:
    """Lines of JSON, with the time of each."""

    path: Path
    _live: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def began(self, run: str, process: str, phase: str, step: int) -> None:
        with self._lock:
            if other := self._live.get(run):
                self._report(event="overlap", run=run, process=process, other=other)
            self._live[run] = process
            self._report(event="began", run=run, process=process, phase=phase, step=step)

    def ended(self, run: str, process: str, phase: str, code: int | None) -> None:
        with self._lock:
            if self._live.get(run) == process:
                del self._live[run]
            self._report(event="ended", run=run, process=process, phase=phase, code=code)

    def _report(self, **values: Any) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({**values, "time": time.time()}) + "\n")


@dataclass
class Process:
    """One process of a run; `killed` takes it from one moment to the next, `stop` asks it to commit and end."""

    words: list[str]
    name: str
    run: str
    pace: float
    killed: threading.Event = field(default_factory=threading.Event)
    stop: threading.Event = field(default_factory=threading.Event)
    code: int | None = None
    begun: float = field(default_factory=time.time)
    ended: float | None = None
    step: int = 0

    def follow(self) -> None:
        """As a rank of SFT that is not the first: it ends when the last checkpoint is there."""
        checkpoints = Checkpoints(open_store(self.words[self.words.index("--run") + 1]), "sft")
        while not self.killed.wait(self.pace):
            step = checkpoints.latest()
            if step is not None and checkpoints.state(step)["final"]:
                self.code = 0
                return

    def work(self, history: History) -> None:
        """Does the phase that its command names. Its end is in `code`: None if it was killed."""
        store = open_store(self.words[self.words.index("--run") + 1])
        recipe = read_recipe(store, self.words[self.words.index("--recipe-sha256") + 1])
        stage = int(self.words[self.words.index("--stage") + 1]) if "--stage" in self.words else None
        kind = _COMMANDS.get(self.words[1])
        phase = stage_phase(recipe, stage) if stage is not None else next(one for one in phases(recipe) if one.name == kind)
        store = take_over(store, phase.name)
        begun = Checkpoints(store, phase.name).latest() if phase.kind in ("sft", "grpo") else None
        history.began(self.run, self.name, phase.name, begun or phase.first_step)
        try:
            if phase.kind in ("sft", "grpo"):
                steps = phase.stage.steps if isinstance(phase, StagePhase) else SFT_STEPS
                self._train(store, phase, begun or phase.first_step, phase.first_step + steps, recipe)
            elif not self.killed.wait(4 * self.pace):
                self._write(store, phase)
                self.code = 0
        except Fenced:
            self.code = EXIT_FENCED
        self.ended = time.time()
        history.ended(self.run, self.name, phase.name, self.code)

    def _write(self, store: Store, phase: Phase) -> None:
        if phase.kind == "coldstart":
            store.write_bytes(COLDSTART_MANIFEST, b"{}")
            return
        step = Checkpoints(store, phase.input_phase).latest() if phase.input_phase else 0
        store.write_bytes(eval_key(phase.input_phase or "base"), json.dumps({"step": step}).encode())

    def _train(self, store: Store, phase: Phase, step: int, last: int, recipe: Recipe) -> None:
        self.step = step
        log = StepLog(store, phase.name, step)
        while step < last:
            if self.killed.wait(self.pace):
                return
            step += 1
            if isinstance(phase, StagePhase):
                log.append({**_record(phase, step), "workers": recipe.rollout.workers})
            self.step = step
            stopping = self.stop.is_set() or self._asked(store)
            if step == last or step % recipe.checkpoint.every == 0 or stopping:
                self._commit(store, phase, step, step == last)
            if stopping:
                break
        self.code = 0 if step == last else 3

    def _asked(self, store: Store) -> bool:
        return "--stop-when" in self.words and store.exists(self.words[self.words.index("--stop-when") + 1])

    def _commit(self, store: Store, phase: Phase, step: int, final: bool) -> None:
        checkpoints = Checkpoints(store, phase.name)
        folder = checkpoints.staging(step)
        (folder / "weights").write_text(f"{phase.name} {step}")
        entries = checkpoints.publish(step, folder, ["weights"])
        if not self.killed.is_set():
            checkpoints.commit(step, entries, {"final": final})


def _record(phase: StagePhase, step: int) -> dict[str, Any]:
    numbers = {"reward_mean": step / 1000, "completion_tokens_mean": 40.0, "completion_truncated_ratio": 0.0, "kl_mean": 0.01}
    return {"phase": phase.name, "stage": phase.number, "step": step, "time": time.time(), "loss": 1.0 / step, **numbers}


class World:
    """All fake pods of runs, and what runs in them."""

    def __init__(self, api: client.ApiClient, history: History, pace: float) -> None:
        self._api, self._history, self._pace = api, history, pace
        self._lock = threading.Lock()
        self._pods: dict[str, Manifest] = {}
        self._heads: dict[str, str] = {}
        self._processes: dict[str, Process] = {}
        self._jobs: dict[str, dict[str, Process]] = {}
        self._lost: set[str] = set()
        """Pods whose node is gone. The API may name them for a minute more."""

    def follow(self) -> None:
        """Watches for ever: pods of runs, and nodes that are lost with what runs on them."""
        while True:
            try:
                self._follow()
            except (HTTPError, client.ApiException, ValueError) as error:
                print(f"watching: {error}", flush=True)
                time.sleep(0.5)

    def _follow(self) -> None:
        found = self._ask("GET", "/api/v1/pods", {"labelSelector": "visionr1.io/run"})
        pods = {one["metadata"]["uid"]: one for one in found["items"]}
        for uid in self._pods.keys() - pods.keys():
            self._gone(uid)
        for pod in pods.values():
            self._seen(pod)
        query = {"labelSelector": "visionr1.io/run", "watch": "true", "resourceVersion": found["metadata"]["resourceVersion"]}
        response = self._send("GET", "/api/v1/pods", {**query, "timeoutSeconds": "600"}, None)
        for line in response:
            event = json.loads(line)
            if event["type"] == "ERROR":
                return
            if event["type"] == "DELETED":
                self._gone(event["object"]["metadata"]["uid"])
            else:
                self._seen(event["object"])

    def _seen(self, pod: Manifest) -> None:
        meta, status = pod["metadata"], pod.get("status", {})
        uid, role = meta["uid"], meta["labels"]["visionr1.io/role"]
        if status.get("phase") in ("Failed", "Succeeded"):
            self._gone(uid)
            return
        new = status.get("phase") == "Running" and status.get("podIP") and uid not in self._pods
        if not new:
            return
        self._pods[uid] = pod
        if role == "head":
            with self._lock:
                self._heads[status["podIP"]], self._jobs[uid] = uid, {}
        elif role in _BUSY:
            process = Process(pod["spec"]["containers"][0]["command"], meta["name"], _run_of(pod), self._pace_of(pod))
            self._processes[uid] = process
            threading.Thread(target=self._run, args=(pod, process), daemon=True).start()

    def _gone(self, uid: str) -> None:
        pod = self._pods.pop(uid, None)
        if pod is not None and uid not in self._lost:
            self._kill(uid, pod)
        self._processes.pop(uid, None)
        self._lost.discard(uid)

    def _pace_of(self, pod: Manifest) -> float:
        """A run may choose another pace by FAKE_PACE."""
        env = {one["name"]: one.get("value") for one in pod["spec"]["containers"][0].get("env", [])}
        return float(env.get("FAKE_PACE") or self._pace)

    def follow_nodes(self) -> None:
        """What runs on a node that is gone, or that kwok looks after no longer, has ended."""
        while True:
            time.sleep(0.5)
            try:
                found = self._ask("GET", "/api/v1/nodes", {})["items"]
            except (HTTPError, client.ApiException, ValueError):
                continue  # not to be known now
            meta = [one["metadata"] for one in found]
            alive = {one["name"] for one in meta if "kwok.x-k8s.io/node" in one.get("annotations", {})}
            for uid, pod in list(self._pods.items()):
                if pod["spec"]["nodeName"] not in alive and uid not in self._lost:
                    self._lost.add(uid)
                    self._kill(uid, pod)

    def _kill(self, uid: str, pod: Manifest) -> None:
        if (process := self._processes.get(uid)) is not None:
            process.killed.set()
        with self._lock:
            if self._heads.get(pod["status"]["podIP"]) == uid:
                del self._heads[pod["status"]["podIP"]]
            for driver in self._jobs.pop(uid, {}).values():
                driver.killed.set()
            if pod["metadata"]["labels"]["visionr1.io/role"] == "worker":
                self._lose_a_worker(pod)

    def _lose_a_worker(self, pod: Manifest) -> None:
        """The driver of its RayCluster fails, if one lives."""
        for uid, jobs in self._jobs.items():
            head = self._pods.get(uid)
            mine = head is not None and _cluster_of(head) == _cluster_of(pod)
            for driver in [one for one in jobs.values() if mine and one.ended is None]:
                driver.code = 1
                driver.killed.set()

    def _run(self, pod: Manifest, process: Process) -> None:
        if pod["metadata"]["labels"].get("training.kubeflow.org/replica-index", "0") == "0":
            process.work(self._history)
        else:
            process.follow()
        meta, (container, *_) = pod["metadata"], pod["status"]["containerStatuses"]
        state = {"terminated": {"exitCode": process.code, "reason": "Completed"}}
        status = {"phase": "Succeeded", "containerStatuses": [{**container, "ready": False, "started": False, "state": state}]}
        while process.code == 0 and not process.killed.is_set():
            try:
                self._ask("PATCH", f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/status", {}, {"status": status})
                return
            except client.ApiException as error:
                if error.status == 404:
                    return
            except (HTTPError, ValueError):
                time.sleep(0.5)

    # Ray's job API, by the address of the head that is asked.

    def submit(self, address: str, asked: Manifest) -> Manifest | None:
        """Starts a driver; None if no head lives at the address."""
        with self._lock:
            uid = self._heads.get(address)
            if uid is None:
                return None
            name = asked["submission_id"]
            if name not in self._jobs[uid]:
                head = self._pods[uid]
                process = Process(shlex.split(asked["entrypoint"]), name, _run_of(head), self._pace_of(head))
                self._jobs[uid][name] = process
                threading.Thread(target=self._drive, args=(process, head), daemon=True).start()
            return {"job_id": name, "submission_id": name}

    def _drive(self, process: Process, head: Manifest) -> None:
        """As Ray does, a driver waits for workers that are there."""
        while any(uid in self._lost and _cluster_of(pod) == _cluster_of(head) for uid, pod in list(self._pods.items())):
            if process.killed.wait(0.1):
                return
        process.work(self._history)

    def job(self, address: str, name: str) -> Process | None:
        """A driver by the name of its submission."""
        with self._lock:
            return self._jobs.get(self._heads.get(address, ""), {}).get(name)

    def step(self, address: str) -> int | None:
        """Newest step of the driver of this head."""
        with self._lock:
            live = [one for one in self._jobs.get(self._heads.get(address, ""), {}).values() if one.ended is None]
        return live[-1].step if live else None

    def _ask(self, method: str, path: str, query: dict[str, str], body: Any = None) -> Manifest:
        answer: Manifest = json.loads(self._send(method, path, query, body).read())
        return answer

    def _send(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:
        return self._api.call_api(
            path, method, query_params=list(query.items()), body=body, auth_settings=["BearerToken"], _preload_content=False,
            header_params={"Accept": "application/json", "Content-Type": "application/merge-patch+json"},
            _return_http_data_only=True, _request_timeout=(5, 620),
        )  # fmt: skip


def _cluster_of(pod: Manifest) -> tuple[str, str | None]:
    """Namespace and name of its RayCluster."""
    meta = pod["metadata"]
    return meta["namespace"], meta["labels"].get("ray.io/cluster")


def _run_of(pod: Manifest) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['labels']['visionr1.io/run']}"


def _info(name: str, process: Process) -> Manifest:
    status, message = {None: "RUNNING", 0: "SUCCEEDED", 1: "FAILED", 3: "STOPPED"}[process.code], ""
    if process.code == 1 or (process.code == 3 and not process.stop.is_set()):  # in which case Ray knows of no request
        status = "FAILED"
        message = f"Job entrypoint command failed with exit code {process.code}, last available logs (truncated):\nlogs"
    times = {"start_time": int(1000 * process.begun), "end_time": int(1000 * (process.ended or 0))}
    return {"type": "SUBMISSION", "submission_id": name, "job_id": name, "status": status, "message": message, **times}


def _handler(world: World) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address, (_, *parts) = self.connection.getsockname()[0], self.path.rstrip("/").split("/")
            if parts == ["metrics"]:
                step = world.step(address)
                text = f"visionr1_step {step}\nvisionr1_reward_mean {(step or 0) / 1000}\n"
                self._answer(404 if step is None else 200, text.encode(), "text/plain")
            elif parts[:2] == ["api", "jobs"] and len(parts) == 3:
                process = world.job(address, parts[2])
                self._json(404, {}) if process is None else self._json(200, _info(parts[2], process))
            else:
                self._json(200, {})

        def do_POST(self) -> None:
            address, (_, *parts) = self.connection.getsockname()[0], self.path.rstrip("/").split("/")
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if parts == ["api", "jobs"]:
                made = world.submit(address, json.loads(body))
                self._json(503, {}) if made is None else self._json(200, made)
                return
            process = world.job(address, parts[2])
            if process is not None:
                process.stop.set()
            self._json(200, {"stopped": process is not None})

        def _json(self, status: int, body: Manifest) -> None:
            self._answer(status, json.dumps(body).encode(), "application/json")

        def _answer(self, status: int, body: bytes, content: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Asked every few seconds."""

    return Handler


class _Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True


def main() -> None:
    kubeconfig, history, pace = sys.argv[1:]
    config.load_kube_config(kubeconfig)
    world = World(client.ApiClient(), History(Path(history)), float(pace))
    for port in (DASHBOARD, METRICS):
        threading.Thread(target=_Server(("0.0.0.0", port), _handler(world)).serve_forever, daemon=True).start()
    threading.Thread(target=world.follow_nodes, daemon=True).start()
    world.follow()


if __name__ == "__main__":
    main()
