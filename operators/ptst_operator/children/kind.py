"""What the operator has to know of a kind of child. The file of each kind gives it as `KIND`; `table.py` has them all."""

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
        deletion: Foreground: an object that is deleted is gone once its pods are; Background: before them.
        watched: whether a change of an object wakes the run that it belongs to.
    """

    kind: str
    version: str
    plural: str
    deletion: Literal["Foreground", "Background"] = "Foreground"
    watched: bool = True

    def path(self, namespace: str) -> str:
        """URL path of the objects of one namespace."""
        root = "apis" if "/" in self.version else "api"  # only the core group has no name
        return f"/{root}/{self.version}/namespaces/{namespace}/{self.plural}"


@dataclass(frozen=True)
class PlannedChild:
    """The child of one attempt, before it is made.

    Attributes:
        cluster: the RayCluster that it runs on; None for one of its own, or where it needs none.
        start: checkpoint, or model, that the attempt begins from; for people.
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
        build: what is made for one attempt, in the order in which it must be made; the child itself is the last.
        read: what a child says of itself.
        pod_label: label of the child's pods; its value is the child's name. On Ray only those of a cluster of its own have it.
        container: container whose exit code is the phase's; None where the child itself says it.
        on_ray: whether its process is a driver on a RayCluster, which may outlive the child.
        brings: other resources that are made for it.
        comes_with: what installs the kind; empty where every cluster has it.
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
