"""One control plane for the whole folder; each test has a namespace of its own."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from control_plane import ControlPlane, wait_for
from installed import CHART, Platform
from player import Player

_names = itertools.count(1)


@pytest.fixture(scope="session")
def bare_plane() -> Iterator[ControlPlane]:
    """API server, scheduler, controllers and fake nodes, with the chart's definition."""
    assert os.environ.get("VISIONR1_INSIDE"), "run these tests by `make e2e`, which gives them a network of their own"
    with ControlPlane() as plane:
        plane.kubectl("create", "-f", str(CHART / "crds"))
        plane.kubectl("wait", "--for=condition=established", "crd/ptstruns.visionr1.io", "--timeout=30s")
        yield plane


@pytest.fixture(scope="session")
def plane(bare_plane: ControlPlane) -> ControlPlane:
    """With KubeRay and the training-operator."""
    bare_plane.start_operators()
    return bare_plane


@pytest.fixture
def namespace(bare_plane: ControlPlane) -> str:
    """A new namespace that enforces PodSecurity's restricted profile."""
    name = f"vision-{next(_names)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    bare_plane.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    wait_for("service account", lambda: "default" in bare_plane.kubectl("-n", name, "get", "sa", "default", check=False))
    return name


@pytest.fixture
def platform(plane: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[Platform]:
    player = Player(plane, namespace)
    player.start()
    made = Platform(plane, namespace, tmp_path, player)
    yield made
    for process in made.operators:
        process.kill()
        process.wait()
    player.close()
    plane.kubectl("delete", "namespace", namespace, "--wait=false")
    time.sleep(0.5)
