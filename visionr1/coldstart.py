"""The process of the cold start: starts what its teachers need, then asks, filters and writes (`visionr1.data.coldstart`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from typing import Final

import psutil
from rich.console import Console

from visionr1.data.coldstart.endpoint import Server
from visionr1.data.coldstart.run import run_coldstart
from visionr1.data.coldstart.summary import coldstart_table
from visionr1.metrics.exporter import Exporter
from visionr1.preflight.base import base_on_this_machine
from visionr1.preflight.check import check_run, reads_base
from visionr1.recipe import Recipe, phases
from visionr1.recipe.phases import COLDSTART_PHASE
from visionr1.recipe.values import DEMO_TEACHER
from visionr1.reward import Grader
from visionr1.rollout.cluster import ray_cluster, require_shared_memory
from visionr1.rundir.coldstart import is_committed
from visionr1.rundir.lock import phase_lock
from visionr1.rundir.recipe import read_recipe
from visionr1.rundir.stop import asked_to_stop
from visionr1.rundir.takeover import taking_over
from visionr1.signals import StopFlag
from visionr1.storage import Store, open_store

_ASK_SECONDS: Final = 5.0


def run(run_url: str, stop_when: str | None = None, recipe_sha256: str | None = None) -> None:
    """Writes and commits the cold-start data of a run directory's recipe, from where it was, and shows what became of it.

    Args:
        stop_when: key in the run directory; once it is there, the process stops.
        recipe_sha256: as in `read_recipe`.

    Raises:
        BadInput: the recipe, the data or an endpoint cannot work.
        Unreachable: a teacher does not answer now, or a worker could not be started.
        Fenced: another attempt has taken the run over.
        Stopped: SIGTERM, Ctrl-C or `stop_when` came; the replies are kept.
    """
    store = open_store(run_url)
    recipe = read_recipe(store, recipe_sha256)
    _look_ahead(recipe)
    done = is_committed(store)
    answers = recipe.reward.model_copy(update={"function": "hfrrf"})
    with (
        phase_lock(store, recipe_sha256),
        nullcontext(store) if done else taking_over(store, COLDSTART_PHASE) as taken,
        closing(Exporter(recipe.metrics, "coldstart", recipe.name)) as exporter,
        Grader(answers) as grader,
        _scripted_teacher(recipe) as resolve_url,
        _workers(recipe, done, _Stop(store, stop_when)) as (workers, should_stop),
    ):
        report = run_coldstart(
            recipe, taken, grader.same, should_stop, resolve_url, lambda now: exporter.update(now | _memory()), workers
        )
    Console().print(coldstart_table(report))


def _look_ahead(recipe: Recipe) -> None:
    """The first phase of a run looks at what all phases need, for on a cluster nobody else can see it before."""
    chain = phases(recipe)
    if chain[0].name == COLDSTART_PHASE:
        check_run(recipe, chain, base_on_this_machine(recipe.model) if reads_base(recipe, chain) else None, machine=False)


class _Stop:
    """Whether a file in the run directory asks to stop. A store that may be far away is asked only now and then."""

    def __init__(self, store: Store, stop_when: str | None) -> None:
        self._store, self._stop_when = store, stop_when
        self._asked, self._next = False, 0.0

    def __call__(self) -> bool:
        if self._stop_when is not None and time.monotonic() >= self._next:
            self._asked = self._asked or asked_to_stop(self._store, self._stop_when)
            self._next = time.monotonic() + _ASK_SECONDS
        return self._asked


@contextmanager
def _workers(
    recipe: Recipe, done: bool, stop: Callable[[], bool]
) -> Iterator[tuple[Mapping[str, Sequence[Server]], Callable[[], bool]]]:
    """Starts vLLM for the teachers that have workers, if there is still something to ask them. Also yields whether to stop."""
    teachers = {} if done or recipe.coldstart is None else recipe.coldstart.in_job
    if not teachers:
        with StopFlag() as signalled:
            yield {}, lambda: signalled() or stop()
        return
    require_shared_memory()
    with (
        ray_cluster(sum(workers.count for _, workers in teachers.values())),
        StopFlag() as signalled,  # after Ray, which takes SIGTERM for itself when it starts
    ):
        # Only now may Ray be imported: it reads its environment when it is.
        from visionr1.rollout.serving import serving

        with serving(recipe, lambda: signalled() or stop()) as servers:
            yield servers, lambda: signalled() or stop()


@contextmanager
def _scripted_teacher(recipe: Recipe) -> Iterator[Callable[[str], str]]:
    """Serves the demo's scripted teacher if the recipe asks for it. Yields what turns a teacher's base_url into its address."""
    teachers = (recipe.coldstart.describer, recipe.coldstart.reasoner) if recipe.coldstart else ()
    if not any(server.base_url == DEMO_TEACHER for teacher in teachers for server in teacher.servers):
        yield lambda url: url
        return
    from visionr1.demo.teacher import scripted_teacher

    with scripted_teacher() as address:
        yield lambda url: address if url == DEMO_TEACHER else url


def _memory() -> dict[str, int]:
    return {"host_memory_bytes": psutil.Process().memory_info().rss}
