"""The loop of a stage with a crew of known answers: what is written when, and when it stops."""

import numpy as np
import pytest

from visionr1.data.rows import Row
from visionr1.data.sampler import PromptSampler
from visionr1.errors import BadInput, Stopped
from visionr1.grpo.journal import Journal
from visionr1.grpo.loop import run_stage
from visionr1.grpo.start import stage_phase
from visionr1.metrics.exporter import Exporter
from visionr1.metrics.steplog import StepLog, read_steps
from visionr1.recipe import load_recipe
from visionr1.reward import Grader
from visionr1.rollout.types import Completion
from visionr1.storage import open_store

RECIPE = load_recipe(
    "demo",
    [
        'stages=[{"max_completion_tokens":8,"group_size":2,"steps":4}]',
        "algorithm.prompts_per_step=2",
        "checkpoint.every=2",
        "metrics.enabled=false",
    ],
)
PHASE = stage_phase(RECIPE, 0)
ROWS = [Row(f"row-{number}", "How many?", (), str(number)) for number in range(6)]


class Crew:
    """Remembers what it was asked; `commit` may be made to die, as a killed driver does."""

    def __init__(self) -> None:
        self.committed: dict[int, dict] = {}
        self.sampled: list[list[str]] = []
        self.dies_at: int | None = None

    def rollout(self, rows, sampling, seeds):
        self.sampled.append([row.id for row in rows])
        return [[Completion("no tags", [1, 2], [-1.0, -1.0], "stop")] * sampling.n for _ in rows]

    def update(self, advantages_PG, learning_rate):
        assert not advantages_PG.any(), "equal rewards teach nothing"
        keys = ("loss", "kl_mean", "entropy_mean", "clip_ratio", "logprob_mismatch", "grad_norm", "trained_tokens")
        return dict.fromkeys(keys, 0.0)

    def check(self, stats, mismatch_limit, step): ...

    def sync(self): ...

    def save(self, step):
        return []

    def commit(self, step, entries, state):
        if step == self.dies_at:
            raise KeyboardInterrupt
        self.committed[step] = state


@pytest.fixture
def run(tmp_path):
    """Runs the stage from `first_step` with `crew`; gives the step log's records."""
    store = open_store(str(tmp_path))

    def go(crew, first_step=0, state=None, should_stop=lambda: False, reward=RECIPE.reward):
        exporter = Exporter(RECIPE.metrics, "driver", RECIPE.name)
        journal = Journal(RECIPE, PHASE, store, StepLog(store, PHASE.name, first_step), exporter, lambda n, note="": None)
        sampler = PromptSampler(len(ROWS), RECIPE.seed, "rows=6", state)
        try:
            with Grader(reward) as grader:
                run_stage(RECIPE, PHASE, first_step, ROWS, sampler, crew, grader, journal, should_stop)
        finally:
            go.steps = [record["step"] for record in read_steps(store)]

    return go


def test_a_stage_commits_every_second_step_and_its_last(run):
    crew = Crew()
    run(crew)
    assert run.steps == [1, 2, 3, 4]
    assert list(crew.committed) == [2, 4]


def test_a_step_is_in_the_log_before_it_is_committed(run):
    """Else a kill between the two would leave a hole: a committed step is never run again."""
    crew = Crew()
    crew.dies_at = 2
    with pytest.raises(KeyboardInterrupt):
        run(crew)
    assert run.steps == [1, 2]


def test_a_run_that_goes_on_logs_no_step_twice_and_draws_the_same_rows(run):
    whole = Crew()
    run(whole)
    crew = Crew()
    crew.dies_at = 4
    with pytest.raises(KeyboardInterrupt):
        run(crew)
    later = Crew()
    run(later, first_step=2, state=crew.committed[2]["sampler"])
    assert run.steps == [1, 2, 3, 4]
    assert crew.sampled[:2] + later.sampled == whole.sampled


def test_a_request_to_stop_commits_the_step_that_runs(run):
    crew = Crew()
    with pytest.raises(Stopped, match="stopped after step 1, which is committed"):
        run(crew, should_stop=lambda: True)
    assert list(crew.committed) == run.steps == [1]


def test_a_request_to_stop_in_the_last_step_is_the_end(run):
    crew = Crew()
    run(crew, should_stop=lambda: len(crew.sampled) == 4)
    assert list(crew.committed) == [2, 4]


def test_rewards_that_differ_reach_the_update_in_row_order(run):
    class Right(Crew):
        def rollout(self, rows, sampling, seeds):
            right = [f"<think>t</think><answer>{row.id[-1]}</answer>" for row in rows]
            wrong = "no tags"
            self.sampled.append([row.id for row in rows])
            return [[Completion(text, [1], [-1.0], "stop") for text in (answer, wrong)] for answer in right]

        def update(self, advantages_PG, learning_rate):
            np.testing.assert_allclose(advantages_PG, [[2**-0.5, -(2**-0.5)]] * 2, rtol=1e-5)
            return super().update(advantages_PG * 0, learning_rate)

    run(Right())
    assert run.steps == [1, 2, 3, 4]


def test_a_reward_file_that_breaks_on_the_first_batch_ends_the_stage_before_an_update(run, tmp_path):
    path = tmp_path / "reward.py"
    path.write_text(
        "def score(rows):\n"
        "    return [{'overall': 1.0 if row['response'].startswith('<think>') else float('nan'), 'format': 1, 'accuracy': 1}\n"
        "            for row in rows]\n"
    )

    class Never(Crew):
        def update(self, advantages_PG, learning_rate):
            raise AssertionError("an update with rewards that are none")

    crew = Never()
    with pytest.raises(BadInput, match=r"reward.py:score: row 0: 'overall' is nan, not a finite number"):
        run(crew, reward=RECIPE.reward.model_copy(update={"function": f"{path}:score"}))
    assert crew.sampled and run.steps == []
