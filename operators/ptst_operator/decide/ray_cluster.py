"""The RayCluster that stays through the stages: when to create it, and when to give it back."""

from __future__ import annotations

from dataclasses import replace

from ptst_operator.children import raycluster
from ptst_operator.decide.situation import Situation
from ptst_operator.effects import Decision, Delete, Effect
from ptst_operator.names import Manifest
from ptst_operator.status import ClusterStatus, Status, moment


def with_cluster(at: Situation, status: Status) -> Status:
    """Chooses the name of the run's next RayCluster. It is created after this is written."""
    name = f"{at.run.name}-ray-{status.clusters_begun}"
    begun = moment(at.now)
    cluster = ClusterStatus(
        name=name,
        started=begun,
        workers=at.run.recipe.rollout.workers,
        made_as=raycluster.fingerprint(raycluster.build(at.run, name)),
        pending_since=begun,
    )
    return replace(status, cluster=cluster, clusters_begun=status.clusters_begun + 1)


def is_ready(at: Situation) -> bool:
    """Whether a stage can begin on the RayCluster."""
    seen = at.world.cluster
    return seen is not None and seen.ready and seen.run_uid == at.run.uid


def is_outdated(at: Situation, cluster: ClusterStatus, wanted: Manifest) -> bool:
    """Whether the next attempt needs another cluster. Of a cluster that an older operator made, only the workers are known."""
    if cluster.made_as is None:
        return cluster.workers not in (None, at.run.recipe.rollout.workers)
    return cluster.made_as != raycluster.fingerprint(wanted)


def without_cluster(at: Situation, status: Status, look_at: float | None = None) -> Decision:
    """Gives the RayCluster back, if there is one, because no stage runs or is due."""
    if status.cluster is None:
        return Decision(status, look_at=look_at)
    seen = at.world.cluster
    effects: tuple[Effect, ...] = ()
    if seen is not None and seen.run_uid == at.run.uid and not seen.deleting:
        effects = (Delete(raycluster.RESOURCE.kind, status.cluster.name, seen.uid),)
    return Decision(replace(status, cluster=replace(status.cluster, deleting=True)), effects, look_at)
