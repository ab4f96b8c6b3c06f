"""The loop of a stage with a crew of known answers: what is written when, and when it stops."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from s3_proxy import Fault, Proxy

from visionr1.data.rows import Row
from visionr1.data.sampler import PromptSampler, shuffled
from visionr1.engine.saving import Parts
from visionr1.errors import BadInput, Stopped
from visionr1.grpo.batches import Batch, Batches
from visionr1.grpo.journal import StageJournal
from visionr1.grpo.loop import run_stage
from visionr1.grpo.parity import Gap, Probe
from visionr1.metrics.exporter import Exporter
from visionr1.recipe import load_recipe
from visionr1.recipe.phases import stage_phase
from visionr1.recipe.schema import Recipe
from visionr1.reward import Grader
from visionr1.rollout.types import Reply, Sampling
from visionr1.rundir.steplog import StepLog, read_steps
from visionr1.storage import StorageError, open_store

RECIPE = load_recipe(
    "demo",
    [
        'stages=[{"max_completion_tokens":8,"group_size":2,"steps":4}]',
        "algorithm.prompts_per_step=2",
        "checkpoint.every=2",
        "rollout.parity_every=2",
        "metrics.enabled=false",
    ],
)
ROWS = [Row(f"row-{number}", "How many?", (), str(number)) for number in range(6)]


def reply(text: str, tokens: int) -> Reply:
    return Reply(text, np.arange(tokens, dtype=np.int32), "stop")


class Crew:
    """Remembers what it was asked; `commit` may be made to die, as a killed driver does."""

    def __init__(self) -> None:
        self.committed: dict[int, dict[str, Any]] = {}
        self.sampled: list[list[str]] = []
        self.expected: list[list[float] | None] = []
        self.upcoming: list[list[str]] = []
        self.seeds: list[list[int]] = []
        self.dies_at: int | None = None
        self.waited: list[int] = []
        self.probed: list[int] = []
        self.order: list[str] = []
        self.gap = Gap(0.0, 0.0)

    def rollout(self, batch: Batch, sampling: Sampling, seeds: list[int]) -> Iterator[dict[int, list[Reply]]]:
        """Each row is a worker's part; the last one ends first."""
        self.sampled.append([row.id for row in batch.rows])
        self.seeds.append(seeds)
        self.expected.append(batch.expected)
        for index in reversed(range(len(batch.rows))):
            yield {index: [reply("no tags", 2)] * sampling.n}

    def update(self, advantages_PG: np.ndarray, learning_rate: float, upcoming: Batch | None) -> dict[str, float]:
        assert not advantages_PG.any(), "equal rewards teach nothing"
        keys = (
            "loss",
            "kl_mean",
            "entropy_mean",
            "clip_ratio",
            "logprob_mismatch",
            "logprob_mismatch_max",
            "grad_norm",
            "trained_tokens",
        )
        if upcoming is not None:
            self.upcoming.append([row.id for row in upcoming.rows])
        return dict.fromkeys(keys, 0.0)

    def check(self) -> None: ...

    def sync(self) -> None:
        self.order.append("sync")

    def probe(self) -> list[Probe]:
        self.probed.append(len(self.sampled))
        return [Probe(self.gap, self.gap)]

    def save(self, step: int) -> Parts:
        self.order.append("save")
        return []

    def commit(self, step: int, parts: Parts, state: dict[str, Any], *, wait: bool) -> None:
        if step == self.dies_at:
            raise KeyboardInterrupt
        self.committed[step] = state
        self.waited += [step] * wait


class Go:
    """Runs the stage from `first_step` with `crew`; then has the step log's records and their steps."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.records: list[dict[str, Any]] = []
        self.steps: list[int] = []

    def __call__(
        self,
        crew: Crew,
        first_step: int = 0,
        state: dict[str, Any] | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        recipe: Recipe = RECIPE,
        stage: int = 1,
        url: str | None = None,
        lengths: dict[str, float] | None = None,
    ) -> None:
        store, phase = open_store(url or self.folder), stage_phase(recipe, stage)
        exporter = Exporter(RECIPE.metrics, "driver", RECIPE.name)
        journal = StageJournal(recipe, phase, store, StepLog(store, phase.name, first_step), exporter, lambda n, note="": None)
        sampler = PromptSampler(len(ROWS), RECIPE.seed, "rows=6", state)
        try:
            with Grader(recipe.reward) as grader:
                batches = Batches(ROWS, sampler, lengths or {}, recipe.algorithm.prompts_per_step)
                run_stage(recipe, phase, first_step, batches, cast(Any, crew), grader, journal, should_stop)
        finally:
            self.records = read_steps(store)
            self.steps = [record["step"] for record in self.records]


@pytest.fixture
def run(tmp_path: Path) -> Go:
    return Go(tmp_path)


def test_a_stage_commits_every_second_step_and_its_last(run: Go) -> None:
    crew = Crew()
    run(crew)
    assert run.steps == [1, 2, 3, 4]
    assert list(crew.committed) == [2, 4]
    assert crew.waited == [4], "the stage's end waits for the last commit, no step for another"


def test_a_checkpoint_is_written_while_the_engine_sleeps(run: Go) -> None:
    """It sleeps from the end of the rollout to the sync; beside an engine that is awake a GPU has no room for what is saved."""
    crew = Crew()
    run(crew)
    assert crew.order == ["sync", "save", "sync", "sync", "save", "sync"]


def test_a_step_is_in_the_log_before_it_is_committed(run: Go) -> None:
    """Else a kill between the two would leave a hole: a committed step is never run again."""
    crew = Crew()
    crew.dies_at = 2
    with pytest.raises(KeyboardInterrupt):
        run(crew)
    assert run.steps == [1, 2]


def test_a_run_that_goes_on_logs_no_step_twice_and_draws_the_same_rows(run: Go) -> None:
    whole = Crew()
    run(whole)
    crew = Crew()
    crew.dies_at = 4
    with pytest.raises(KeyboardInterrupt):
        run(crew)
    later = Crew()
    run(later, first_step=2, state=crew.committed[2]["sampler"])
    assert run.steps == [1, 2, 3, 4]
    assert ["pause_seconds" in record for record in run.records] == [False, False, True, False], "the loss is a figure"
    assert {record["workers"] for record in run.records} == {RECIPE.rollout.workers}
    assert crew.sampled[:2] + later.sampled == whole.sampled
    assert crew.seeds[:2] + later.seeds == whole.seeds


def test_a_row_that_a_step_draws_more_than_once_gets_a_seed_for_each_draw(run: Go) -> None:
    more = load_recipe("demo", ['stages=[{"max_completion_tokens":8,"group_size":2,"steps":1}]', "algorithm.prompts_per_step=16"])
    crew = Crew()
    run(crew, recipe=more)
    assert len(crew.sampled[0]) == 16 > len(set(crew.sampled[0])), "six rows make sixteen draws"
    assert len(set(crew.seeds[0])) == 16


def test_steps_logged_behind_a_commit_that_never_came_are_not_logged_twice(run: Go) -> None:
    class Slow(Crew):
        """Step 2 is still on its way to the bucket when the run is killed in step 4."""

        def commit(self, step: int, parts: Parts, state: dict[str, Any], *, wait: bool) -> None: ...

        def update(self, advantages_PG: np.ndarray, learning_rate: float, upcoming: Batch | None) -> dict[str, float]:
            if len(self.sampled) == 4:
                raise KeyboardInterrupt
            return super().update(advantages_PG, learning_rate, upcoming)

    killed, later = Slow(), Crew()
    with pytest.raises(KeyboardInterrupt):
        run(killed)
    assert run.steps == [1, 2, 3]
    run(later)
    assert run.steps == [1, 2, 3, 4]
    assert later.sampled == killed.sampled


def test_a_record_that_a_bucket_does_not_take_ends_the_stage(
    run: Go, proxy: Proxy, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    crew = Crew()
    proxy.faults = [Fault("503", key="rollouts/stage-1/step-1.jsonl.zst")]
    with pytest.raises(StorageError, match=r"step-1\.jsonl\.zst: http.* answered SlowDown"):
        run(crew, url=s3_url)
    assert len(crew.sampled) == 2 and not crew.committed and run.steps == []
    run(Crew(), url=s3_url)
    assert run.steps == [1, 2, 3, 4]


def test_a_run_that_goes_on_at_the_border_of_an_epoch_begins_the_next_one(run: Go) -> None:
    """Six rows, two a step: an epoch ends with step 3."""
    whole, crew, later = Crew(), Crew(), Crew()
    run(whole)
    with pytest.raises(Stopped):
        run(crew, should_stop=lambda: len(crew.sampled) == 3)
    run(later, first_step=3, state=crew.committed[3]["sampler"])
    assert run.steps == [1, 2, 3, 4]
    assert [ROWS[row].id for row in shuffled(len(ROWS), RECIPE.seed, 1)[:2]] == later.sampled[0] == whole.sampled[3]


def test_a_stage_begins_with_the_rows_and_the_step_after_the_stage_before(run: Go) -> None:
    whole, first, second = Crew(), Crew(), Crew()
    run(whole, recipe=RECIPE.model_copy(update={"stages": (RECIPE.stages[0].model_copy(update={"steps": 7}),)}))
    two = RECIPE.model_copy(update={"stages": (RECIPE.stages[0], RECIPE.stages[0].model_copy(update={"steps": 3}))})
    run(first, recipe=two)
    run(second, recipe=two, stage=2, first_step=4, state=first.committed[4]["sampler"])
    assert run.steps == [1, 2, 3, 4, 5, 6, 7]
    assert list(second.committed) == [6, 7]
    assert first.sampled + second.sampled == whole.sampled


def test_a_request_to_stop_commits_the_step_that_runs(run: Go) -> None:
    crew = Crew()
    with pytest.raises(Stopped, match="stopped after step 1, which is committed"):
        run(crew, should_stop=lambda: True)
    assert list(crew.committed) == crew.waited == run.steps == [1]


def test_a_request_to_stop_in_the_last_step_is_the_end(run: Go) -> None:
    crew = Crew()
    run(crew, should_stop=lambda: len(crew.sampled) == 4)
    assert list(crew.committed) == [2, 4]


def test_every_second_step_is_probed_after_its_sync_and_its_record_says_so(run: Go) -> None:
    crew = Crew()
    run(crew)
    assert crew.probed == [1, 3]
    assert ["parity_probe_max" in record for record in run.records] == [True, False, True, False]


def test_a_gradient_that_is_not_finite_stops_the_run_before_it_reaches_the_engine_and_is_recorded(run: Go, s3_url: str) -> None:
    class Explodes(Crew):
        def update(self, advantages_PG: np.ndarray, learning_rate: float, upcoming: Batch | None) -> dict[str, float]:
            norm = float("inf") if len(self.sampled) == 3 else 1.0
            return super().update(advantages_PG, learning_rate, upcoming) | {"grad_norm": norm}

        def sync(self) -> None:
            assert len(self.sampled) < 3

    crew = Explodes()
    with pytest.raises(
        RuntimeError, match="step 3: loss 0.0 and gradient norm inf are not finite; lower optimiser.learning_rate"
    ):
        run(crew, url=s3_url)
    assert list(crew.committed) == [2]
    assert (run.steps, run.records[-1]["grad_norm"]) == ([1, 2, 3], None)


def test_an_engine_that_left_the_trainer_stops_the_run_before_a_commit_and_with_its_figures(run: Go) -> None:
    class Drifts(Crew):
        def probe(self) -> list[Probe]:
            self.gap = Gap(0.02 * (len(self.sampled) - 1), 0.25 * (len(self.sampled) - 1))
            return super().probe()

    crew = Drifts()
    with pytest.raises(RuntimeError, match="step 3: right after the weight sync, .* by 0.04 on average and 0.5 at most"):
        run(crew)
    assert list(crew.committed) == [2]
    assert run.records[-1]["parity_probe_mean"] == 0.04


def test_rewards_that_differ_reach_the_update_in_row_order(run: Go) -> None:
    class Right(Crew):
        def rollout(self, batch: Batch, sampling: Sampling, seeds: list[int]) -> Iterator[dict[int, list[Reply]]]:
            self.sampled.append([row.id for row in batch.rows])
            for index, row in reversed(list(enumerate(batch.rows))):
                yield {index: [reply(f"<think>t</think><answer>{row.id[-1]}</answer>", 1), reply("no tags", 1)]}

        def update(self, advantages_PG: np.ndarray, learning_rate: float, upcoming: Batch | None) -> dict[str, float]:
            np.testing.assert_allclose(advantages_PG, [[2**-0.5, -(2**-0.5)]] * 2, rtol=1e-5)
            return super().update(advantages_PG * 0, learning_rate, upcoming)

    run(Right())
    assert run.steps == [1, 2, 3, 4]


def test_a_reward_file_that_breaks_on_the_first_batch_ends_the_stage_before_an_update(run: Go, tmp_path: Path) -> None:
    path = tmp_path / "reward.py"
    path.write_text(
        "def score(rows):\n"
        "    return [{'overall': 1.0 if row['response'].startswith('<think>') else float('nan'), 'format': 1, 'accuracy': 1}\n"
        "            for row in rows]\n"
    )

    class Never(Crew):
        def update(self, advantages_PG: np.ndarray, learning_rate: float, upcoming: Batch | None) -> dict[str, float]:
            raise AssertionError("an update with rewards that are none")

    crew = Never()
    with pytest.raises(BadInput, match=r"reward.py:score: row 0: 'overall' is nan, not a finite number"):
        run(crew, recipe=RECIPE.model_copy(update={"reward": RECIPE.reward.model_copy(update={"function": f"{path}:score"})}))
    assert crew.sampled and run.steps == []


def test_the_next_step_s_prompts_go_along_with_the_update(run: Go) -> None:
    crew = Crew()
    run(crew)
    assert crew.upcoming == crew.sampled[1:]


def test_a_resumed_stage_expects_the_lengths_that_an_uninterrupted_one_does(run: Go, tmp_path: Path) -> None:
    whole, killed, later = Crew(), Crew(), Crew()
    run(whole)
    assert whole.expected[0] is None and whole.expected[3] == [2.0, 2.0], "six rows: the fourth step sees two of them again"
    killed.dies_at = 4
    other = Go(tmp_path / "other")
    with pytest.raises(KeyboardInterrupt):
        other(killed)
    other(later, first_step=2, state=killed.committed[2]["sampler"], lengths=killed.committed[2]["lengths"])
    assert (later.sampled, later.expected) == (whole.sampled[2:], whole.expected[2:])
    assert later.committed[4] == whole.committed[4]
