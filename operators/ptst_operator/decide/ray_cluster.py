"""The RayCluster that stays through the stages: when to create it, and when to give it back."""

from __future__ import annotations

from dataclasses import replace

from ptst_operator.children import raycluster
from ptst_operator.decide.fewer_workers import pods_of
from ptst_operator.decide.situation import Situation
from ptst_operator.effects import Apply, Decision, Delete, Effect
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


def is_ready(at: Situation, cluster: ClusterStatus) -> bool:
    """Whether a stage can begin on the RayCluster, which has as many worker pods as it must."""
    seen, there = at.cluster, at.world.worker_pods
    if seen is None or not raycluster.is_whole(seen, there):
        return False
    return there is None or seen.pods == pods_of(at, cluster)


def made_or_scaled(at: Situation, cluster: ClusterStatus, wanted: Manifest) -> tuple[Effect, ...]:
    """Creates the RayCluster, or gives it another number of worker pods, if it is not as it must be."""
    seen, there, pods = at.world.cluster, at.world.worker_pods, pods_of(at, cluster)
    if seen is not None and (there is None or seen.pods == pods):
        return ()
    return (Apply(raycluster.scaled(wanted, pods, there or ())),)


def is_outdated(at: Situation, cluster: ClusterStatus, wanted: Manifest) -> bool:
    """Whether the next attempt needs another cluster. Of a cluster that an older operator made, only the workers are known."""
    if cluster.reduced_for is not None and at.run.spec.grpo.min_workers is None:
        return True
    if cluster.made_as is None:
        return cluster.workers not in (None, at.run.recipe.rollout.workers)
    return cluster.made_as != raycluster.fingerprint(wanted)


def without_cluster(at: Situation, status: Status, look_at: float | None = None) -> Decision:
    """Gives the RayCluster back, if there is one, because no stage runs or is due."""
    if status.cluster is None:
        return Decision(status, look_at=look_at)
    seen = at.cluster
    effects: tuple[Effect, ...] = ()
    if seen is not None and not seen.deleting:
        effects = (Delete(raycluster.RESOURCE.kind, status.cluster.name, seen.uid),)
    return Decision(replace(status, cluster=replace(status.cluster, deleting=True)), effects, look_at)
