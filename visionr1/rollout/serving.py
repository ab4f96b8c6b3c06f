"""Teachers inside the job: Ray actors on this machine or on a cluster, each with one vLLM server.

The cold start asks them over HTTP like any other endpoint, so retries, time limits and what is kept are the same.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any, Final, cast

import ray
from ray.actor import ActorHandle, ActorProxy
from ray.util.placement_group import PlacementGroup, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from visionr1.capacity.model import DEMO_BASE
from visionr1.data.badrow import one_line
from visionr1.data.coldstart.endpoint import Server
from visionr1.errors import Stopped, Unreachable
from visionr1.metrics.listening import free_port
from visionr1.progress import progress
from visionr1.recipe.coldstart import TeacherName, TeacherWorkers
from visionr1.recipe.schema import Recipe
from visionr1.rollout import vllm_on_cpu
from visionr1.rollout.room import reserve

_LOOK_SECONDS: Final = 0.5
_AGAIN_SECONDS: Final = 10.0
_LOG_BYTES: Final = 1 << 16


@dataclass(frozen=True)
class ServerPlan:
    """One worker's server: how it is started, but for its host and port, and on how many GPUs (0: on a CPU)."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    gpus: int


class ServerHost:
    """The Ray actor. Its constructor cannot fail, so every error reaches the driver as it is."""

    def __init__(self, plan: ServerPlan) -> None:
        self._plan = plan

    @ray.method
    def start(self) -> str:
        """Starts the server, waits until it answers, and gives its address. Raises Unreachable if it ends before."""
        plan = self._plan
        if not plan.gpus:
            vllm_on_cpu.require_libnuma()
        self._log = tempfile.TemporaryFile(prefix="visionr1-vllm-")  # noqa: SIM115 - as long as the server
        host = ray.util.get_node_ip_address()  # the loopback address, on one machine
        port = free_port(host)
        leash = [sys.executable, "-m", "visionr1.rollout.leash", str(os.getpid())]
        command = [*leash, *plan.command, f"--host={host}", f"--port={port}"]
        self._process = subprocess.Popen(
            command, stdout=self._log, stderr=subprocess.STDOUT, env=os.environ | dict(plan.environment)
        )
        while not _answers(host, port):
            if self._process.poll() is not None:
                raise Unreachable(self._last_words())
            time.sleep(_LOOK_SECONDS)
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"

    @ray.method
    def wait(self) -> str:
        """Returns when the server has ended, with what it wrote last."""
        self._process.wait()
        return self._last_words()

    def _last_words(self) -> str:
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - _LOG_BYTES))
        lines = self._log.read().decode(errors="replace").splitlines()
        told = [line for line in lines if "Error" in line] or [line for line in lines if line.strip()] or ["it wrote nothing"]
        return f"vLLM has ended with code {self._process.returncode}: {one_line(told[-1])}"


def vllm_plan(model: str, workers: TeacherWorkers, key: str, cuda: bool) -> ServerPlan:
    """vLLM's OpenAI-compatible server, for requests that have the key."""
    options: dict[str, object] = {
        "model": DEMO_BASE if model == "demo" else model,
        "served-model-name": model,
        "tensor-parallel-size": workers.tensor_parallel,
        "max-num-seqs": workers.max_sequences,
        "load-format": "safetensors",
    }
    if workers.max_model_len is not None:
        options["max-model-len"] = workers.max_model_len
    flags = ["--enable-prefix-caching", "--disable-uvicorn-access-log"]
    if cuda:
        options["gpu-memory-utilization"] = workers.gpu_memory_utilization
    else:
        options["kv-cache-memory-bytes"] = int(workers.cpu_kv_cache_gib * 2**30)
        flags.append("--enforce-eager")
    module = (sys.executable, "-m", "vllm.entrypoints.openai.api_server")
    environment = {"VLLM_API_KEY": key, "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
    return ServerPlan(
        (*module, *(f"--{name}={value}" for name, value in options.items()), *flags),
        environment if cuda else environment | vllm_on_cpu.ENVIRONMENT,
        workers.tensor_parallel if cuda else 0,
    )


def _answers(host: str, port: int) -> bool:
    with closing(HTTPConnection(host, port, timeout=5)) as connection:
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False


@contextmanager
def serving(recipe: Recipe, should_stop: Callable[[], bool]) -> Iterator[Mapping[str, Sequence[Server]]]:
    """Starts the workers of the teachers on the Ray cluster that this process is in; yields their servers by teacher.

    A worker that is lost while others answer is started again, on another machine if need be. The block begins when all are up.

    Raises:
        Unreachable: a worker could not be started, or the cluster has no room for all.
        Stopped: asked to stop before all were up.
    """
    cuda = recipe.rollout.on_gpu("GPU" in ray.cluster_resources())
    key = secrets.token_hex(32)
    teachers = {} if recipe.coldstart is None else recipe.coldstart.in_job
    plans = {name: [vllm_plan(model, workers, key, cuda)] * workers.count for name, (model, workers) in teachers.items()}
    with serving_plans(plans, key, should_stop) as servers:
        yield servers


@contextmanager
def serving_plans(
    plans: Mapping[TeacherName, Sequence[ServerPlan]], key: str, should_stop: Callable[[], bool]
) -> Iterator[Mapping[str, Sequence[Server]]]:
    """As `serving`; `plans` are the servers of each teacher."""
    places = [(name, number, plan) for name, some in plans.items() for number, plan in enumerate(some)]
    group = reserve([_bundle(plan) for _, _, plan in places], "the teachers' workers", should_stop)
    keepers: list[_Keeper] = []
    try:
        for bundle, (name, number, plan) in enumerate(places):
            server = Server(f"worker {number}", "", key, own=True)
            keepers.append(_Keeper(name, server, _actor(plan, group, bundle)))
        _wait_for_all(keepers, should_stop)
        yield {name: [keeper.server for keeper in keepers if keeper.teacher == name] for name in plans}
    finally:
        for keeper in keepers:
            keeper.close()
        remove_placement_group(group)


class _Keeper:
    """Keeps one worker's server up, in a thread. `up` is set when it answers for the first time, or has failed before."""

    def __init__(self, teacher: str, server: Server, actor: ActorProxy[ServerHost]) -> None:
        self.teacher, self.server, self.up = teacher, server, Future[None]()
        self._actor = actor
        self._closed = False
        threading.Thread(target=self._keep, daemon=True).start()

    def _keep(self) -> None:
        while not self._closed:
            try:
                self.server.url = ray.get(self._actor.start.remote())
                if not self.up.done():
                    self.up.set_result(None)
                fault = ray.get(self._actor.wait.remote())
            except ray.exceptions.RayTaskError as error:
                fault = str(error.cause)
            except ray.exceptions.RayActorError:
                fault = "its process or its machine is gone"
            except ray.exceptions.RayError as error:
                fault = one_line(str(error))
            self.server.url = ""
            if self._closed:
                return
            if not self.up.done():
                self.up.set_exception(Unreachable(f"coldstart.{self.teacher}: {self.server.name}: {fault}"))
                return
            print(f"coldstart.{self.teacher}: {self.server.name}: {fault}; it is started again", file=sys.stderr, flush=True)
            time.sleep(_AGAIN_SECONDS)

    def close(self) -> None:
        """Ends the worker, and its server with it."""
        self._closed = True
        ray.kill(cast("ActorHandle[ServerHost]", self._actor))


def _actor(plan: ServerPlan, group: PlacementGroup, bundle: int) -> ActorProxy[ServerHost]:
    strategy = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=bundle)
    wanted = _bundle(plan)
    options: dict[str, Any] = {"num_cpus": wanted["CPU"], "num_gpus": wanted.get("GPU", 0), "scheduling_strategy": strategy}
    return ray.remote(ServerHost).options(max_restarts=-1, **options).remote(plan)


def _bundle(plan: ServerPlan) -> dict[str, float]:
    return {"CPU": 1.0} | ({"GPU": float(plan.gpus)} if plan.gpus else {})


def _wait_for_all(keepers: Sequence[_Keeper], should_stop: Callable[[], bool]) -> None:
    waiting = {keeper.up for keeper in keepers}
    with progress("starting the teachers' workers", len(waiting)) as advance:
        while waiting:
            done, waiting = wait(waiting, timeout=_LOOK_SECONDS, return_when=FIRST_COMPLETED)
            for one in done:
                one.result()
                advance(1)
            _end_on_request(should_stop)


def _end_on_request(should_stop: Callable[[], bool]) -> None:
    if should_stop():
        raise Stopped("stopped while the teachers' workers were starting")
