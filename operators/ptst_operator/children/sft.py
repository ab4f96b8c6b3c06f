"""What SFT's pods are, whichever kind makes them: one a node, torchrun in each."""

from __future__ import annotations

from ptst_operator.children.pods import Manifest, Owner, metrics_ports, template
from visionr1.recipe import Phase


def processes(owner: Owner) -> int:
    """Ranks of one pod."""
    assert owner.recipe.sft is not None, "only a recipe with an sft section has the phase"
    return owner.recipe.sft.processes


def pod_template(owner: Owner, phase: Phase, container: str) -> Manifest:
    """One node's pod."""
    ranks = processes(owner)
    command = ["visionr1", "sft", "--run", owner.spec.storage.url]
    ports = metrics_ports(range(ranks))
    return template(owner, owner.spec.sft.pods, phase.name, "sft", container, ranks, command, ports=ports)
