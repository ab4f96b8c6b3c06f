"""What the operator makes of every preset, before the real definitions and webhooks of KubeRay and the training-operator."""

from __future__ import annotations

import json
from typing import Any

import pytest
from control_plane import ControlPlane
from ptst_operator.children import job, pytorchjob, raycluster, rayjob
from ptst_operator.run import ResolvedRun
from ptst_operator.spec import Spec, resolve_recipe
from test_cluster_definition import PRESETS, rendered

from visionr1.recipe import phases
from visionr1.recipe.phases import StagePhase


def children(owner: ResolvedRun) -> list[dict[str, Any]]:
    """One of every kind that the run needs."""
    name, made = owner.name, [raycluster.build(owner, f"{owner.name}-ray-0")]
    for phase in phases(owner.recipe):
        if isinstance(phase, StagePhase):
            made.append(rayjob.build(owner, f"{name}-{phase.name}-0", phase, f"{name}-ray-0", "sft/step-3"))
            made.append(rayjob.build(owner, f"{name}-{phase.name}-1", phase, None, "sft/step-3"))
        elif phase.kind == "sft":
            made.append(pytorchjob.build(owner, f"{name}-sft-0", phase))
        else:
            made.append(job.build(owner, f"{name}-{phase.name}-0", phase))
    return made


@pytest.mark.parametrize("preset", PRESETS)
def test_every_child_of_every_preset_is_taken(preset: str, platform: ControlPlane, namespace: str) -> None:
    (run,) = [one for one in rendered(preset) if one["kind"] == "PTSTRun"]
    spec, name = Spec.model_validate(run["spec"]), run["metadata"]["name"]
    made = children(ResolvedRun(name, namespace, "uid", spec, resolve_recipe(spec, name)))
    for one in made:
        one["metadata"].pop("ownerReferences")  # of a run that is not there
        one["metadata"]["namespace"] = namespace
    items = json.dumps({"apiVersion": "v1", "kind": "List", "items": made})
    reported = platform.kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", stdin=items)
    assert reported.count("serverside-applied") == len(made)
    assert "Warning" not in reported
