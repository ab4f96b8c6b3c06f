"""One GRPO stage, step by step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from visionr1.engine.journal import Clock
from visionr1.engine.saving import total_bytes
from visionr1.errors import Stopped
from visionr1.grpo.advantage import advantages
from visionr1.grpo.batches import Batch, Batches
from visionr1.grpo.crew import Crew
from visionr1.grpo.grading import Grading
from visionr1.grpo.journal import StageJournal
from visionr1.grpo.parity import fault, probe_stats, unsound
from visionr1.grpo.schedule import checkpoint_due, learning_rate, probe_due, request_seed
from visionr1.recipe.phases import StagePhase
from visionr1.recipe.schema import Recipe
from visionr1.reward import Grade, Grader
from visionr1.rollout.types import Reply, Sampling


def run_stage(
    recipe: Recipe,
    phase: StagePhase,
    first_step: int,
    batches: Batches,
    crew: Crew,
    grader: Grader,
    journal: StageJournal,
    should_stop: Callable[[], bool],
) -> None:
    """Trains from global step `first_step` to the stage's end; every step ends in a log record.

    Raises:
        Stopped: asked to stop, after a checkpoint.
        RuntimeError: a loss that is no number, or an engine that does not agree with the trainer.
    """
    stage, last_step = phase.stage, phase.last_step
    sampling = Sampling(stage.group_size, stage.max_completion_tokens, recipe.rollout.temperature, recipe.rollout.top_p)

    upcoming: Batch | None = batches.draw()
    for step in range(first_step + 1, last_step + 1):
        assert upcoming is not None, "every step but the last draws the next one's batch"
        clock, batch, timeouts = Clock(), upcoming, grader.timeouts
        groups, grades = _sampled(recipe, step, batch, sampling, crew, grader, clock)
        batches.note(batch, groups)
        upcoming = batches.draw() if step < last_step else None
        rewards_PG = np.array([grade.overall for grade in grades]).reshape(len(groups), stage.group_size)
        advantages_PG = advantages(rewards_PG, recipe.algorithm.normalise_by_std)
        with clock("update"):
            rate = learning_rate(recipe.optimiser, step - phase.first_step)
            stats = crew.update(advantages_PG, rate, upcoming)
        crew.check()
        wrong = unsound(stats)
        stopping = should_stop()
        saved = None
        if wrong is None and (stopping or checkpoint_due(step, phase.first_step, last_step, recipe.checkpoint)):
            # While the engine sleeps: when it is awake, a GPU has no room for the trainer's state.
            with clock("checkpoint"):
                saved = crew.save(step)
            stats["checkpoint_bytes"] = total_bytes(saved)
        if wrong is None:
            with clock("weight_sync"):
                crew.sync()
            probes = []
            if probe_due(step - phase.first_step, recipe.rollout.parity_every):
                with clock("parity_probe"):
                    probes = crew.probe()
                stats |= probe_stats(probes)
            wrong = fault(recipe, stats, probes)
        stats["grading_timeouts"] = grader.timeouts - timeouts
        journal.write(step, rate, batch.rows, groups, grades, rewards_PG, stats, clock)
        if wrong is not None:
            journal.flush()  # the record has the figures
            raise RuntimeError(f"step {step}: {wrong}")
        if saved is not None:
            # Last of all: a step that is committed is never run again, so nothing may be left to write.
            journal.flush()
            crew.commit(step, saved, batches.state(batch), wait=stopping or step == last_step)
        if stopping and step < last_step:
            raise Stopped(f"stopped after step {step}, which is committed")


def _sampled(
    recipe: Recipe, step: int, batch: Batch, sampling: Sampling, crew: Crew, grader: Grader, clock: Clock
) -> tuple[list[list[Reply]], list[Grade]]:
    """Groups in the order of the rows, and the grade of each completion; grading begins with the first groups."""
    found: dict[int, list[Reply]] = {}
    with Grading(grader, batch.rows) as grading:
        with clock("rollout"):
            seeds = [request_seed(recipe.seed, step, place) for place in range(len(batch.rows))]
            for part in crew.rollout(batch, sampling, seeds):
                grading.add(part)
                found |= part
        with clock("reward"):
            grades = grading.grades()
    return [found[index] for index in range(len(batch.rows))], grades
