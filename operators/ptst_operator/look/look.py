"""One look at a run: all that a decision needs, by the names in its status."""

from __future__ import annotations

from ptst_operator.api import Api
from ptst_operator.look import cluster, driver, run_directory
from ptst_operator.run import WantedRun
from ptst_operator.status import Status
from ptst_operator.world import World
from visionr1.storage import Store


def look(api: Api, wanted: WantedRun, status: Status, store: Store, refused: str | None) -> World:
    """What the cluster, the driver and the run directory show now.

    Args:
        refused: why the operator could not do what it had decided last.

    Raises:
        ApiError: the API server cannot be asked.
        StorageError: the run directory cannot be read now.
        BadInput: something in the run directory cannot be read at all.
    """
    live = status.live()
    elastic = wanted.run.spec.grpo.min_workers is not None
    there = cluster.look_at_cluster(api, wanted.run, status, elastic)
    progress, answered_at, driver_ended = driver.look_at_driver(wanted, live, there.child, there.head)
    committed = run_directory.committed_phases(store, wanted, status)
    if progress is None:
        progress = run_directory.newest_progress(store, wanted, status, committed)
    at_rest = live is None and status.cluster is None
    sft_is_next = "sft" in committed and not committed["sft"].complete
    return World(
        child=there.child,
        leftover=there.leftover,
        orphans=there.orphans,
        pod_exit_code=there.pod_exit_code,
        ended_by_node=there.ended_by_node,
        kept_by=there.kept_by,
        cluster=there.cluster,
        cluster_pods=there.cluster_pods,
        worker_pods=there.worker_pods,
        hindrance=there.hindrance,
        answered_at=answered_at,
        driver_ended=driver_ended,
        committed=committed,
        progress=progress,
        rollback=run_directory.rollback_progress(store, wanted, status) if at_rest else None,
        breaches=run_directory.breaches_before_next(store, wanted, status, committed),
        breach=run_directory.breach_of_running(store, wanted, status, committed),
        refused=refused,
        restricted=cluster.enforces_restricted(api),
        sft_kind=cluster.find_sft_kind(api, wanted) if sft_is_next else None,
    )
