"""A control plane, with a real node if a test asks for it. Each test has its own namespace.

`make cluster` has two of them side by side: tests of a real node wait for its two cores, the others for the API server.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from control_plane import Cluster, ControlPlane, wait_for
from real_node import RealNode, whole_node
from release import ONLY_STAGES, Release, train_alone
from xdist.scheduler import LoadScopeScheduling

CHART = Path(__file__).parents[2] / "charts/visionr1-ptst"
REAL_NODE = {f"test_cluster_{name}.py" for name in ("children", "coldstart", "faults", "quota", "replicas", "run", "verbs")}
_names = itertools.count(1)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests of a real node go to one cluster, and all others to another. The files have to be named: no test is collected yet."""
    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = lambda test: "a real node" if Path(test.split("::")[0]).name in REAL_NODE else "fake nodes"
    return scheduler


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fails where REAL_NODE lacks a file: a second KubeRay in the cluster of the fake nodes makes pods twice."""
    real = {
        item.path.name for item in items if "node" in getattr(item, "fixturenames", ()) and not item.get_closest_marker("soak")
    }
    assert real <= REAL_NODE, f"name in REAL_NODE, too: {real - REAL_NODE}"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """API server, scheduler, controllers and fake nodes, or that of E2E_KUBECONFIG; with the chart's definition."""
    with ExitStack() as stack:
        if "E2E_KUBECONFIG" in os.environ:
            made = Cluster(Path(os.environ["E2E_KUBECONFIG"]))
        else:
            assert os.environ.get("VISIONR1_INSIDE"), "run these tests by `make cluster`, which gives them a network of their own"
            made = stack.enter_context(ControlPlane())
        made.define(CHART / "crds")
        yield made


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A new namespace that enforces PodSecurity's restricted profile."""
    yield from new_namespace(cluster)


@pytest.fixture(scope="module")
def module_namespace(cluster: Cluster) -> Iterator[str]:
    """The same for all tests of a file."""
    yield from new_namespace(cluster)


@pytest.fixture
def namespaces(cluster: Cluster) -> Iterator[Callable[[], str]]:
    """As many as a test asks for."""
    made: list[Iterator[str]] = []

    def one() -> str:
        made.append(new_namespace(cluster))
        return next(made[-1])

    yield one
    for each in made:
        next(each, None)


def new_namespace(cluster: Cluster) -> Iterator[str]:
    name = f"visionr1-{os.getpid()}-{next(_names)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    wait_for("service account", lambda: "default" in cluster.kubectl("-n", name, "get", "sa", "default", check=False))
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")


@pytest.fixture(scope="session")
def node(cluster: Cluster) -> Iterator[RealNode]:
    """A node with real pods, with KubeRay, the training-operator and the operator's image."""
    if not isinstance(cluster, ControlPlane):
        pytest.skip("these tests make a node of their own, which the cluster of E2E_KUBECONFIG cannot take")
    if os.environ["VISIONR1_INSIDE"] != "root":
        pytest.skip("a real node needs root")
    with whole_node(cluster) as node:
        yield node


@pytest.fixture(scope="session")
def platform(cluster: ControlPlane, node: RealNode) -> ControlPlane:
    """The control plane, with that node."""
    return cluster


@pytest.fixture
def release(platform: ControlPlane, namespace: str) -> Iterator[Release]:
    """The chart, for the test to install; all that its runs have made is gone at the end."""
    made = Release(platform, namespace)
    yield made
    made.kubectl("delete", "ptst", "--all", "--wait=false")
    made.uninstall("ptst,rayclusters,rayjobs,jobs,pods")


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The step log of `ONLY_STAGES` where nothing happens, for the tests in which something does."""
    return train_alone(ONLY_STAGES, tmp_path_factory.mktemp("undisturbed"))
