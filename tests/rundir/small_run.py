"""A whole small run directory, written by the same functions that the phases use."""

from visionr1.data.coldstart.choose import Outcome
from visionr1.data.coldstart.filters import Kept
from visionr1.data.coldstart.output import write_samples
from visionr1.data.coldstart.reply import Reply
from visionr1.data.coldstart.work import WorkLog
from visionr1.data.rows import Row
from visionr1.recipe import StagePhase, parse_recipe, phases
from visionr1.recipe.reads import evaluation_settings
from visionr1.rundir import coldstart, layout
from visionr1.rundir.attempts import AttemptRecord, write_attempt
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.progress import Progress, write_progress
from visionr1.rundir.recipe import adopt_recipe
from visionr1.rundir.scores import Sample, Scores
from visionr1.rundir.steplog import StepLog
from visionr1.storage import Store

RECIPE = parse_recipe(
    """
name: small
model: {base: demo}
data: {train: {path: train.jsonl}, held_out: {path: held-out.jsonl}}
coldstart: {problems: {path: train.jsonl}}
sft: {}
stages:
  - {max_completion_tokens: 8, group_size: 2, steps: 2}
  - {max_completion_tokens: 16, group_size: 2, steps: 2}
""",
    "small",
)
LAST_STEPS = {"sft": 3, "stage-1": 2, "stage-2": 4}


def sample(tokens: int) -> Sample:
    return Sample(
        id=f"held-out.jsonl#{tokens}",
        sample=0,
        problem="What is 1+2?",
        images=("iVBO",),
        response="<think>Wait. 3.</think><answer>3</answer>",
        tokens=tokens,
        finish_reason="stop",
        overall=1.0,
        format=1.0,
        accuracy=1.0,
        answer="3",
        reason="right",
        truth="3",
    )


def small_run(store: Store) -> Store:
    """A finished run in a local store; its evaluation was tried twice, and its first attempt still has a progress file."""
    adopt_recipe(store, RECIPE)
    works = WorkLog(store)
    works.add("0" * 64, "train.jsonl#0", "reasoning", Reply("3", "1+2=3", "stop"))
    works.close()
    report = coldstart.ColdStartReport(
        problems=1, kept=1, rejected={}, examples={}, reflection_words={"Wait": 1}, mean_words=2.0, asked=1, reused=0
    )
    coldstart.write_report(store, report)
    row = Row("train.jsonl#0", "What is 1+2?", (), "3")
    outcome = Outcome(0, row.id, 0, "3", Kept("1+2=3", "3", True), (), 1.0)
    assert len([*write_samples(store, [row], [outcome], several_images=True)]) == 1
    coldstart.commit(store, 1)
    scores = Scores(store, evaluation_settings(RECIPE))
    for place, phase in enumerate(phases(RECIPE)):
        write_attempt(store, phase.name, 0, AttemptRecord(["visionr1"], 100.0 * place, None, 100.0 * place + 90, 0, None, 2**30))
        folder = store.local_path(layout.attempt_prefix(phase.name, 0))
        assert folder is not None
        write_progress(folder, Progress("at work", 1, 2, "reward 0.5"))
        if phase.name in LAST_STEPS:
            last = LAST_STEPS[phase.name]
            log = StepLog(store, phase.name, phase.first_step)
            for step in range(phase.first_step + 1, last + 1):
                log.append(record(phase.name, phase.number if isinstance(phase, StagePhase) else None, step))
            checkpoints = Checkpoints(store, phase.name)
            (checkpoints.staging(last) / "config.json").write_text("{}")
            published = checkpoints.publish(last, checkpoints.folder(last), ["config.json"])
            checkpoints.commit(last, published, {"final": True})
            scores.write(phase.name, last, {"accuracy": 0.5, "standard_error": 0.1}, [sample(5), sample(6)])
    return store


def record(phase: str, stage: int | None, step: int) -> dict[str, object]:
    """A line of the step log."""
    return {
        "phase": phase,
        "stage": stage,
        "step": step,
        "time": 1000.0 + 10 * step,
        "reward_mean": 0.5,
        "completion_tokens_mean": 40.0,
        "generated_tokens": 500,
        "loss": 0.1,
        "step_seconds": {"rollout": 4.0, "checkpoint": 1.0},
    }
