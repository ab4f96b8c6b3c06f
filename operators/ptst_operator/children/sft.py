"""The pods of SFT, for every kind of child: one per node, with torchrun in each."""

from __future__ import annotations

from ptst_operator.children.pods import metrics_ports, template
from ptst_operator.names import Manifest
from ptst_operator.run import ResolvedRun, phase_command
from visionr1.recipe import Phase


def processes(run: ResolvedRun) -> int:
    """Ranks of one pod."""
    assert run.recipe.sft is not None, "only a recipe with an sft section has the phase"
    return run.recipe.sft.processes


def pod_template(run: ResolvedRun, phase: Phase, container: str) -> Manifest:
    """One node's pod."""
    ports = metrics_ports(range(processes(run)))
    return template(run, phase.name, "sft", container, phase_command(run, "sft"), ports=ports)
