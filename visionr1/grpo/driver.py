"""The process of one GRPO stage: reads what is committed, starts the workers, runs the loop."""

from __future__ import annotations

import time
from contextlib import closing
from functools import partial

from visionr1.data.check import CheckReport
from visionr1.data.readers import load_problems, select
from visionr1.data.sampler import PromptSampler
from visionr1.errors import Stopped
from visionr1.grpo.batches import Batches
from visionr1.grpo.journal import StageJournal
from visionr1.grpo.schedule import what_is_made
from visionr1.grpo.start import stage_start
from visionr1.metrics.exporter import Exporter
from visionr1.progress import progress
from visionr1.recipe.phases import StagePhase, stage_phase
from visionr1.recipe.schema import Recipe
from visionr1.reward import Grader
from visionr1.rollout.cluster import ray_cluster, require_shared_memory
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.committed import committed
from visionr1.rundir.epoch import FencedStore
from visionr1.rundir.recipe import read_recipe, refuse_planted_reward
from visionr1.rundir.steplog import StepLog
from visionr1.rundir.stop import asked_to_stop
from visionr1.rundir.takeover import taking_over
from visionr1.signals import StopFlag
from visionr1.storage import open_store


def run(run_url: str, number: int, stop_when: str | None = None, recipe_sha256: str | None = None) -> None:
    """Runs stage `number` (from 1) of the run directory's recipe to its end, from where it was.

    Args:
        stop_when: key in the run directory; once it is there the driver stops, before its first step or after any other.
        recipe_sha256: as in `read_recipe`.

    Raises:
        BadInput: the recipe, the data, the machine or the chain of checkpoints is not as it must be.
        StorageError: a checkpoint or a record could not be stored.
        Fenced: another attempt has taken the run over.
        Stopped: SIGTERM, Ctrl-C or `stop_when` came; the last step is committed.
        RuntimeError: training went wrong; see `visionr1.grpo.parity`.
    """
    store = open_store(run_url)
    recipe = read_recipe(store, recipe_sha256)
    refuse_planted_reward(store, recipe)
    phase = stage_phase(recipe, number)
    if committed(store, phase).complete:
        return
    with taking_over(store, phase.name) as fenced:
        _run(fenced, recipe, phase, stop_when)


def _run(store: FencedStore, recipe: Recipe, phase: StagePhase, stop_when: str | None) -> None:
    start = stage_start(
        recipe,
        phase,
        latest=lambda name: Checkpoints(store, name).latest(),
        state=lambda name, step: Checkpoints(store, name).training_state(step),
    )
    require_shared_memory()
    log = StepLog(store, phase.name, start.step)
    stage = phase.stage
    title = f"{phase.title}: {stage.max_completion_tokens} tokens x {stage.group_size}"
    with (
        closing(Exporter(recipe.metrics, "driver", recipe.name, stage.max_completion_tokens)) as exporter,
        Grader(recipe.reward) as grader,
        ray_cluster(recipe.rollout.workers),
        StopFlag() as signalled,  # after Ray, which takes SIGTERM for itself when it starts
    ):
        exporter.update({"phase": phase.name, "stage": phase.number, "started_timestamp_seconds": time.time()})
        # Only now may Ray be imported: it reads its environment when it is.
        from visionr1.grpo.crew import Crew
        from visionr1.grpo.loop import run_stage

        asked = partial(asked_to_stop, store, stop_when)
        if asked():
            raise Stopped("stopped before its first step")

        def should_stop() -> bool:
            return signalled() or asked()

        crew = Crew(recipe, store, phase, start, exporter.committed, should_stop)
        report = crew.usable_problems()
        _list_bad_rows(report)
        rows = select(load_problems(recipe.data.train), report.usable())
        print(what_is_made(recipe, phase, len(rows)), flush=True)
        sampler = PromptSampler(len(rows), recipe.seed, report.fingerprint, start.sampler)
        with progress(title, stage.steps, start.step - phase.first_step) as advance:
            journal = StageJournal(recipe, phase, store, log, exporter, advance)
            batches = Batches(rows, sampler, start.lengths, recipe.algorithm.prompts_per_step)
            run_stage(recipe, phase, start.step, batches, crew, grader, journal, should_stop)
        crew.close()


def _list_bad_rows(report: CheckReport) -> None:
    """On the terminal; they are left out."""
    for note in report.bad[:10]:
        print(f"left out {note.id}: {note.detail}; {note.remedy}")
    if len(report.bad) > 10:
        print(f"left out {len(report.bad) - 10} more rows; run `visionr1 data check` to see them all")
