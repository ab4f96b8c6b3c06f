"""What the operator has to know about a kind of child. Each kind has a file with a `KIND`, and `table.py` lists them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ptst_operator.children.state import ChildState
from ptst_operator.names import Manifest
from ptst_operator.run import ResolvedRun
from visionr1.recipe import Phase, PhaseKind


@dataclass(frozen=True)
class ApiResource:
    """Where the API server has the objects of a kind.

    Attributes:
        version: group and version, as in a manifest's `apiVersion`.
        deletion: Foreground: a deleted object is gone after its pods. Background: before its pods.
        watched: whether a change of an object wakes the run that it belongs to.
    """

    kind: str
    version: str
    plural: str
    deletion: Literal["Foreground", "Background"] = "Foreground"
    watched: bool = True

    def path(self, namespace: str) -> str:
        """URL path of the objects of one namespace; of all namespaces if it is empty, and of objects that are in none."""
        root = "apis" if "/" in self.version else "api"  # only the core group has no name
        within = f"namespaces/{namespace}/" if namespace else ""
        return f"/{root}/{self.version}/{within}{self.plural}"


@dataclass(frozen=True)
class PlannedChild:
    """The child of one attempt, before it is made.

    Attributes:
        cluster: the shared RayCluster that it runs on. None if it has its own, or needs none.
        start: the checkpoint or model that the attempt begins from. Shown to people only.
    """

    name: str
    phase: Phase
    cluster: str | None
    start: str


@dataclass(frozen=True, kw_only=True)
class ChildKind:
    """One kind of child.

    Attributes:
        phases: phases of a recipe that may run as this kind.
        build: makes the manifests of one attempt, in the order in which they must be created. The child itself is the last.
        read: the state of a child, from its manifest.
        pod_label: label of the child's pods, with the child's name as its value. Pods of a shared RayCluster do not have it.
        container: container that runs the phase, and gives its exit code. None if the child's own status has the exit code.
        on_ray: whether its process is a driver on a RayCluster. Such a driver may run longer than the child exists.
        brings: other kinds of objects that are made for it.
        comes_with: the software that installs the kind. Empty if every cluster has it.
    """

    resource: ApiResource
    phases: tuple[PhaseKind, ...]
    build: Callable[[ResolvedRun, PlannedChild], tuple[Manifest, ...]]
    read: Callable[[Manifest], ChildState]
    pod_label: str
    container: str | None
    on_ray: bool = False
    brings: tuple[ApiResource, ...] = ()
    comes_with: str = ""

    @property
    def name(self) -> str:
        """As in a manifest's `kind`."""
        return self.resource.kind
