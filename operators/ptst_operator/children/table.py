"""All kinds of children. A new kind is one more file in this folder, and one more line here."""

from __future__ import annotations

from typing import Final

from ptst_operator.children import job, pytorchjob, rayjob, trainjob
from ptst_operator.children.kind import ChildKind
from ptst_operator.run import ResolvedRun
from visionr1.recipe import Phase, PhaseKind

KINDS: Final[dict[str, ChildKind]] = {
    kind.name: kind
    for kind in (
        pytorchjob.KIND,
        trainjob.KIND,
        rayjob.KIND,
        job.KIND,
    )
}
"""By name. If a phase may run as several kinds, the first in this table is taken."""

RESOURCES: Final = {one.kind: one for kind in KINDS.values() for one in (*kind.brings, kind.resource)}
"""All kinds of objects that are made for a run, by name."""

CONTAINERS: Final = frozenset(kind.container for kind in KINDS.values() if kind.container is not None)
"""Containers that run a phase, and give its exit code."""


def kinds_of(phase: PhaseKind) -> tuple[ChildKind, ...]:
    """The kinds that a phase may run as."""
    return tuple(kind for kind in KINDS.values() if phase in kind.phases)


def kind_of(run: ResolvedRun, phase: Phase) -> ChildKind:
    """The kind that a phase other than SFT runs as. The cold start is a RayJob if one of its teachers is vLLM inside the job."""
    in_job = run.recipe.coldstart is not None and bool(run.recipe.coldstart.in_job)
    return next(kind for kind in kinds_of(phase.kind) if phase.kind != "coldstart" or kind.on_ray == in_job)


def sft_kinds(backend: str) -> tuple[ChildKind, ...]:
    """The kinds that `spec.sft.backend` allows: the one that it names, or any."""
    return tuple(kind for kind in kinds_of("sft") if backend in ("auto", kind.name.lower()))
