"""How far a PTSTRun is: reads `ptst/NAME` from the cluster, with kubectl's configuration.

This is the only module of `visionr1` that knows Kubernetes. It reads one resource, and the ConfigMap of its recipe if it has one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from visionr1.errors import BadInput
from visionr1.recipe import Phase, StagePhase, parse_recipe, phases
from visionr1.rundir.steplog import read_steps
from visionr1.storage import StorageError, open_store
from visionr1.watch.look import State, View, pace, tokens_per_second
from visionr1.watch.problems import problems

PREFIX: Final = "ptst/"
_STATES: Final[dict[str, State]] = {
    "Pending": "waiting",
    "Queued": "waiting",
    "Running": "running",
    "Stopping": "running",
    "Suspended": "stopped",
    "Held": "held",
    "Succeeded": "done",
    "Failed": "failed",
}
_SECONDS: Final = 20


class PtstRun:
    """A run on a cluster.

    If the run directory is on S3 and can be read from here, the curves are made from `steps.jsonl`. Otherwise they begin
    with the first look.

    Args:
        target: `ptst/NAME`.
        namespace: None takes that of the current context.
        context: a context of the kubeconfig. None takes the current one.

    Raises:
        BadInput: the client or its configuration is missing.
    """

    def __init__(self, target: str, namespace: str | None, context: str | None) -> None:
        try:
            from kubernetes import client, config
        except ImportError:
            raise BadInput(
                f"{target}: reading a cluster needs the Kubernetes client: pip install 'visionr1-ptst[operator]'"
            ) from None
        self._target, self._name = target, target.removeprefix(PREFIX)
        try:
            settings = client.Configuration()
            settings.no_proxy = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")  # the client forgets it
            config.load_kube_config(context=context, client_configuration=settings)
            chosen = config.list_kube_config_contexts()
        except config.ConfigException as error:
            raise BadInput(f"{target}: kubectl's configuration cannot be used: {' '.join(str(error).split())}") from None
        contexts, active = chosen
        mine = next((one for one in contexts if one["name"] == context), active)
        self._namespace = namespace or mine["context"].get("namespace", "default")
        self._api = client.CustomObjectsApi(client.ApiClient(settings))
        self._seen: list[dict[str, Any]] = []

    def look(self, now: float) -> View:
        """Reads the run once.

        Raises:
            BadInput: there is no such run, or you have no right to read it.
            StorageError: the API server does not answer now.
        """
        run = self._read()
        recipe = parse_recipe(self._recipe_text(run["spec"]), f"{self._target}: its recipe", [f"name={json.dumps(self._name)}"])
        chain, status = phases(recipe), run.get("status", {})
        names = [phase.name for phase in chain]
        state = _STATES[status.get("phase", "Pending")]
        current = names.index(status["stage"]) if status.get("stage") in names else len(chain) - 1 if state == "done" else 0
        phase = chain[current]
        self._remember(status, phase, now)
        url = run["spec"]["storage"]["url"]
        steps = self._steps(url)
        log = self._seen if steps is None else steps
        own = [record for record in log if record["phase"] == phase.name]
        stage = phase.stage if isinstance(phase, StagePhase) else None
        newest = own[-1]["step"] if own else status.get("step") or 0 if stage else 0
        done = max(0, newest - phase.first_step)
        seconds = pace(own)
        reported = status.get("tokensPerSecondPerGpu", 0.0) * (_workers(status, phase) or recipe.rollout.workers) or None
        return View(
            name=self._name,
            url=f"{self._target} in {self._namespace}, run directory {url}",
            now=now,
            chain=chain,
            current=current,
            state=state,
            done=done,
            total=stage.steps if stage else None,
            records=own,
            stages=[record for record in log if record.get("stage") is not None],
            limit=stage.max_completion_tokens if stage else None,
            tokens_per_second=reported if steps is None else tokens_per_second(own),
            seconds_left=seconds * (stage.steps - done) if seconds is not None and stage and state == "running" else None,
            problems=_conditions(status) + (problems(phase, own, state == "running", now) if steps is not None else []),
            note=_note(status),
        )

    def _read(self) -> dict[str, Any]:
        with self._asking(f"no such run in the namespace {self._namespace}; kubectl get ptst -A lists them"):
            run: dict[str, Any] = self._api.get_namespaced_custom_object(
                "visionr1.io", "v1alpha1", self._namespace, "ptstruns", self._name, _request_timeout=_SECONDS
            )
        return run

    def _recipe_text(self, spec: dict[str, Any]) -> str:
        if "recipe" in spec:
            return json.dumps(spec["recipe"])
        from kubernetes.client import CoreV1Api

        name, key = spec["recipeFrom"]["configMap"], spec["recipeFrom"].get("key", "recipe.yaml")
        with self._asking(f"there is no ConfigMap {name}, which spec.recipeFrom names"):
            data = CoreV1Api().read_namespaced_config_map(name, self._namespace, _request_timeout=_SECONDS).data or {}
        if key not in data:
            raise BadInput(f"{self._target}: the ConfigMap {name} has no {key}, which spec.recipeFrom names")
        return str(data[key])

    @contextmanager
    def _asking(self, missing: str) -> Iterator[None]:
        """Turns an error of the API server into one line for people."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ApiException as error:
            if error.status == 404:
                raise BadInput(f"{self._target}: {missing}") from None
            if error.status in (401, 403):
                raise BadInput(
                    f"{self._target}: you are not allowed to read runs in the namespace {self._namespace} "
                    f"({error.status} {error.reason})"
                ) from None
            raise StorageError(f"{self._target}: the API server answered {error.status} {error.reason}") from None
        except HTTPError as error:
            raise StorageError(
                f"{self._target}: the API server cannot be reached: {' '.join(str(error).split())[:200]}"
            ) from None

    def _steps(self, url: str) -> list[dict[str, Any]] | None:
        """All step records. None if the run directory cannot be read from here, such as a volume of the cluster."""
        if not url.startswith("s3://"):
            return None
        try:
            return read_steps(open_store(url))
        except (StorageError, BadInput):  # often the user has no keys for the bucket, and the run is fine
            return None

    def _remember(self, status: dict[str, Any], phase: Phase, now: float) -> None:
        """Keeps a step that appears in the status for the first time. When the first one ended is not known."""
        step = status.get("step")
        if not isinstance(phase, StagePhase) or step is None or step <= phase.first_step:
            return
        if self._seen and self._seen[-1]["step"] == step:
            return
        first = not self._seen
        self._seen = [one for one in self._seen if one["step"] < step]  # a retry goes back to its checkpoint
        self._seen.append(
            {
                "phase": phase.name,
                "stage": phase.number,
                "step": step,
                "time": None if first else now,
                "reward_mean": status.get("reward"),
                "completion_tokens_mean": status.get("length"),
                "completion_truncated_ratio": status.get("truncated"),
            }
        )


def _workers(status: dict[str, Any], phase: Phase) -> int | None:
    """Workers of the phase's newest attempt, which may be fewer than the recipe's. None if the status does not say."""
    attempts: list[dict[str, Any]] = next(
        (one.get("attempts", []) for one in status.get("phases", []) if one["name"] == phase.name), []
    )
    return attempts[-1].get("workers") if attempts else None


def _conditions(status: dict[str, Any]) -> list[str]:
    """What a person must act on: reason and message of the conditions."""
    wrong = {"RecipeValid": "False", "Failed": "True", "Held": "True"}
    return [
        f"{one['reason']}: {one.get('message', '')}"
        for one in status.get("conditions", [])
        if wrong.get(one["type"]) == one["status"] and one["reason"] != "Unknown"
    ]


def _note(status: dict[str, Any]) -> str:
    progressing = next((one for one in status.get("conditions", []) if one["type"] == "Progressing"), None)
    return progressing.get("message", "") if progressing else "the operator has not looked at it yet"
