"""Runs of the chart that people steer by kubectl: what the next `helm upgrade` does, at a real API server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from chart import CHART
from control_plane import Cluster, helm

LEFT_OUT = "definition.upgrade=false,rbac.aggregate=false,admission.enabled=false"
"""The Job needs a node, and the rest is outside of the namespace."""
DEFAULTS = "run.suspend=false,run.restarts=0"
CLIENT = "--server-side=false"
"""By merge patches of the last and the new manifest, as Helm 3 does."""

Helm = Callable[..., None]


@pytest.fixture
def release(cluster: Cluster, namespace: str) -> Iterator[Helm]:
    """`helm VERB` with a few values and options."""

    def call(verb: str, values: str, *options: str) -> None:
        helm(cluster, verb, "x", str(CHART), f"--namespace={namespace}", f"--set={LEFT_OUT},{values}", *options)

    yield call
    helm(cluster, "uninstall", "x", f"--namespace={namespace}")


@pytest.fixture
def patched(cluster: Cluster, namespace: str) -> Callable[..., None]:
    """The documented `kubectl patch`."""

    def call(**spec: Any) -> None:
        cluster.kubectl("-n", namespace, "patch", "ptst", "vision-r1", "--type", "merge", "-p", json.dumps({"spec": spec}))

    return call


@pytest.fixture
def steered(cluster: Cluster, namespace: str) -> Callable[[], tuple[bool, int, int]]:
    """What the run has now: suspend, restarts, and how many stages."""

    def call() -> tuple[bool, int, int]:
        spec = cluster.get("-n", namespace, "ptst", "vision-r1")["spec"]
        return spec["suspend"], spec["restarts"], len(spec["recipe"]["stages"])

    return call


@pytest.mark.parametrize("way", ["--server-side=true", CLIENT])
def test_an_upgrade_leaves_a_steered_run_as_it_is(
    way: str, release: Helm, patched: Callable[..., None], steered: Callable[[], tuple[bool, int, int]]
) -> None:
    release("install", DEFAULTS, way)
    patched(suspend=True)
    patched(restarts=1)
    release("upgrade", f"{DEFAULTS},operator.logLevel=debug", way)
    assert steered() == (True, 1, 2)
    patched(suspend=False)
    release("upgrade", DEFAULTS, way)
    assert steered() == (False, 1, 2)


@pytest.mark.parametrize("way", ["--server-side=true", CLIENT])
def test_the_values_steer_a_run_that_nobody_patches(
    way: str, release: Helm, steered: Callable[[], tuple[bool, int, int]]
) -> None:
    release("install", DEFAULTS, way)
    release("upgrade", "run.suspend=true,run.restarts=1", way)
    assert steered() == (True, 1, 2)
    release("upgrade", "run.suspend=false,run.restarts=2", way)
    assert steered() == (False, 2, 2)


def test_where_a_patch_and_the_values_differ_the_upgrade_is_refused_and_can_be_forced(
    release: Helm, patched: Callable[..., None], steered: Callable[[], tuple[bool, int, int]]
) -> None:
    stages = [{"max_completion_tokens": 4096, "group_size": 16, "steps": 100}] * 3
    release("install", "run.suspend=true")
    patched(suspend=False, recipe={"stages": stages})
    with pytest.raises(RuntimeError, match='conflicts with "kubectl-patch"') as refused:
        release("upgrade", "run.suspend=true")
    assert "- .spec.suspend\n" in str(refused.value) and "- .spec.recipe.stages\n" in str(refused.value)
    release("upgrade", DEFAULTS, f"--set-json=run.recipe.stages={json.dumps(stages)}")
    assert steered() == (False, 0, 3)
    release("upgrade", "run.suspend=true", "--force-conflicts")
    assert steered() == (True, 0, 2)
