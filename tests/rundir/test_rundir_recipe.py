"""Which changes of a recipe a run that has begun allows, and what its directory says about each phase."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from visionr1.cli import app
from visionr1.errors import BadInput
from visionr1.recipe import PhaseKind, load_recipe, phases, to_yaml
from visionr1.recipe.reads import MAY_CHANGE, evaluation_settings, reads, values
from visionr1.rundir.attempts import AttemptRecord, attempts, write_attempt
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.committed import Committed, committed
from visionr1.rundir.layout import COLDSTART_MANIFEST, EVAL, eval_key
from visionr1.rundir.recipe import adopt_recipe, difference, read_recipe, refuse_planted_reward
from visionr1.rundir.scores import Scores, delete_scores
from visionr1.storage import Store, open_store

DEMO = load_recipe("demo")
STAGE = "{max_completion_tokens: 8, group_size: 2, steps: 1}"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path))


ALL = ("coldstart", "sft", "stage-1", "stage-2", "stage-3")
WITHOUT_COLDSTART = "sft={data: {path: chains.jsonl}, max_steps: 3}"
ALLOWED = [
    (ALL, []),
    (ALL[:3], ["stages.2.steps=5"]),
    (ALL[:3], ["stages.1.steps=5", "stages.1.group_size=2", "stages.2.max_completion_tokens=500"]),
    # How a run is carried out may change at any time.
    (ALL, ["rollout.workers=1", "sft.processes=1", "reward.processes=3"]),
    (ALL, ["rollout.workers=4", "stages.0.tensor_parallel=2", "stages.2.tensor_parallel=4"]),
    (ALL, ["optimiser.zero_stage=3", "optimiser.micro_batch_tokens=512", "rollout.gpu_memory_utilization=0.4"]),
    (ALL, ["metrics.port=9999", "metrics.host=0.0.0.0", "checkpoint.every=2", "checkpoint.keep_last=9"]),
    # Nothing is committed, so nothing is used.
    ((), ["seed=2", "name=other", "coldstart=null", WITHOUT_COLDSTART, "stages=[]", "model.base=an/other"]),
    # The cold start knows neither the model nor the training.
    (ALL[:1], ["model.base=an/other", "model.revision=abc", "seed=2", "sft.learning_rate=1", "data.train.path=other.jsonl"]),
    (ALL[:1], ["sft=null", "reward.function=zero"]),
    # SFT knows no problem and no reward.
    (ALL[:2], ["data.train.path=other.jsonl", "data.max_prompt_tokens=99", "reward.function=zero", "rollout.engine=hf"]),
    (ALL[:2], ["algorithm.kl_beta=0.5", "optimiser.learning_rate=1", "stages.0.group_size=2", "rollout.temperature=0.5"]),
    # Evaluation may be done again.
    (ALL, ["evaluation.temperature=0", "evaluation.samples=4", "data.held_out.limit=3"]),
    (ALL, ["data.held_out=null"]),
]


@pytest.mark.parametrize(("used", "changes"), ALLOWED)
def test_a_value_that_no_phase_has_used_may_change(used: tuple[str, ...], changes: list[str]) -> None:
    assert difference(DEMO, load_recipe("demo", changes), used) == []


def test_stages_may_be_appended() -> None:
    more = load_recipe("demo", [f"stages=[{STAGE}, {STAGE}]"])
    fewer = load_recipe("demo", [f"stages=[{STAGE}]"])
    assert difference(fewer, more, {"stage-1"}) == []
    assert difference(more, fewer, {"stage-1"}) == [], "it has not begun"
    removed = ["stages.1: in the run, but not in this recipe; stage-2 has used it"]
    assert difference(more, fewer, {"stage-1", "stage-2"}) == removed


REFUSED = [
    (ALL[:1], "coldstart.problems.limit=9", "coldstart.problems.limit: 3000 in the run, 9 in this recipe; coldstart"),
    (
        ALL[:1],
        "coldstart.reasoner.model=x",
        'coldstart.reasoner.model: "scripted-teacher" in the run, "x" in this recipe; coldstart',
    ),
    (ALL[:1], "model.max_pixels=40000", "model.max_pixels: 50176 in the run, 40000 in this recipe; coldstart"),
    (ALL[:1], "reward.seconds_per_answer=1", "reward.seconds_per_answer: 5.0 in the run, 1.0 in this recipe; coldstart"),
    (ALL[:2], "name=other", 'name: "demo" in the run, "other" in this recipe; coldstart'),
    (ALL[:2], "model.base=an/other", 'model.base: "demo" in the run, "an/other" in this recipe; sft'),
    (ALL[:2], "seed=2", "seed: 1 in the run, 2 in this recipe; sft"),
    (ALL[:2], "sft.epochs=1", "sft.epochs: 7.0 in the run, 1.0 in this recipe; sft"),
    (ALL[:2], "sft.data={path: x.jsonl}", "sft.data: null in the run, a group of values in this recipe; sft"),
    (ALL[:2], "sft=null", "sft: a group of values in the run, null in this recipe; sft"),
    (ALL, "stages.0.steps=5", "stages.0.steps: 20 in the run, 5 in this recipe; stage-1"),
    (ALL, "stages.1.group_size=2", "stages.1.group_size: 8 in the run, 2 in this recipe; stage-2"),
    (ALL[:3], "data.train.limit=1400", "data.train.limit: 1500 in the run, 1400 in this recipe; stage-1"),
    (ALL[:3], "data.max_prompt_tokens=99", "data.max_prompt_tokens: 256 in the run, 99 in this recipe; stage-1"),
    (ALL[:3], "rollout.engine=hf", 'rollout.engine: "vllm" in the run, "hf" in this recipe; stage-1'),
    (ALL[:3], "algorithm.prompts_per_step=4", "algorithm.prompts_per_step: 8 in the run, 4 in this recipe; stage-1"),
    (ALL[:3], "reward.function=zero", 'reward.function: "hfrrf" in the run, "zero" in this recipe; stage-1'),
    (ALL[:3], "optimiser.betas=[0.9, 0.95]", "optimiser.betas: [0.9, 0.999] in the run, [0.9, 0.95] in this recipe; stage-1"),
]


@pytest.mark.parametrize(("used", "change", "line"), REFUSED)
def test_a_refused_change_names_the_phase_that_has_used_the_value(used: tuple[str, ...], change: str, line: str) -> None:
    assert difference(DEMO, load_recipe("demo", [change]), used) == [f"{line} has used it"]


def test_a_phase_that_comes_before_a_committed_one_can_neither_appear_nor_go() -> None:
    own_chains = load_recipe("demo", ["coldstart=null", WITHOUT_COLDSTART])
    asked = load_recipe("demo", [WITHOUT_COLDSTART])
    assert difference(own_chains, asked, {"sft"}) == [
        "coldstart: null in the run, a group of values in this recipe; sft has used it"
    ]
    zero = load_recipe("demo-zero")
    with_sft = load_recipe("demo-zero", [WITHOUT_COLDSTART])
    assert difference(zero, with_sft, {"stage-1"}) == [
        "sft: null in the run, a group of values in this recipe; stage-1 has used it"
    ]


def test_every_value_is_read_by_a_phase_or_may_change_at_any_time() -> None:
    whole = load_recipe("demo", ["sft.data={path: chains.jsonl}"])
    kinds: tuple[PhaseKind, ...] = ("coldstart", "sft", "grpo", "evaluate")
    left = {path for path in values(whole) if path not in MAY_CHANGE and not any(reads(kind, None, path) for kind in kinds)}
    assert left == {"stages"}, "each stage reads its own entry"
    assert reads("grpo", 2, "stages.1.steps") and not reads("grpo", 2, "stages.0.steps")
    assert not reads("grpo", 1, "stages.10.steps") and not reads("grpo", 1, "stages.0.tensor_parallel")


def test_a_fewer_workers_recipe_replaces_the_runs_own_and_all_else_is_refused(store: Store) -> None:
    """What a person does who has lost a machine: visionr1 run --run DIR --set rollout.workers=1."""
    adopt_recipe(store, DEMO)
    commit(store, "stage-1", 5)
    adopt_recipe(store, load_recipe("demo", ["rollout.workers=1"]))
    assert read_recipe(store).rollout.workers == 1
    with pytest.raises(BadInput) as refused:
        adopt_recipe(store, load_recipe("demo", ["rollout.workers=4", "seed=2", "algorithm.kl_beta=0.5"]))
    assert str(refused.value).splitlines()[1:] == [
        "  seed: 1 in the run, 2 in this recipe; stage-1 has used it",
        "  algorithm.kl_beta: 0.01 in the run, 0.5 in this recipe; stage-1 has used it",
    ]
    assert read_recipe(store).rollout.workers == 1


def test_a_phase_that_began_and_committed_nothing_has_used_nothing_unless_it_is_at_work(store: Store) -> None:
    adopt_recipe(store, DEMO)
    store.write_bytes(COLDSTART_MANIFEST, b"{}")
    write_attempt(store, "sft", 0, AttemptRecord(["x"], 1.0, None, 2.0, 64))
    Checkpoints(store, "sft").staging(100)
    right = load_recipe("demo", ["model.base=the/right"])
    with pytest.raises(BadInput, match=r'model.base: "demo" in the run, .*; sft is at work with it: suspend the run, then'):
        adopt_recipe(store, right, begun=["sft"])
    adopt_recipe(store, right)
    assert read_recipe(store).model.base == "the/right"


def test_scores_of_other_values_are_kept_apart(store: Store) -> None:
    warm, cold = DEMO, load_recipe("demo", ["evaluation.temperature=0"])
    (chain, again) = phases(warm), phases(cold)
    adopt_recipe(store, warm)
    commit(store, "stage-3", 60)
    Scores(store, evaluation_settings(warm)).write("stage-3", 60, {"accuracy": 0.5}, [])
    assert committed(store, chain[-1]).complete
    adopt_recipe(store, cold)
    assert not committed(store, again[-1]).complete
    scores = Scores(store, evaluation_settings(cold))
    assert scores.score("stage-3") is None and scores.others() == [EVAL]
    scores.write("stage-3", 60, {"accuracy": 0.25}, [])
    assert committed(store, again[-1]).complete
    adopt_recipe(store, warm)
    back = Scores(store, evaluation_settings(warm))
    assert back.folder == EVAL and back.others() == [scores.folder]
    found = [one.score("stage-3") for one in (back, scores)]
    assert [one and one.accuracy for one in found] == [0.5, 0.25]
    delete_scores(store, "stage-3")
    assert [one.score("stage-3") for one in (back, scores)] == [None, None]


def test_scores_without_their_values_are_those_of_the_runs_own_recipe(store: Store) -> None:
    """A run that an earlier version has evaluated."""
    adopt_recipe(store, DEMO)
    commit(store, "stage-3", 60)
    store.write_bytes(eval_key("stage-3"), b'{"step": 60}')
    assert committed(store, phases(DEMO)[-1]).complete
    other = load_recipe("demo", ["data.held_out.limit=5"])
    adopt_recipe(store, other)
    assert not committed(store, phases(other)[-1]).complete
    adopt_recipe(store, DEMO)
    assert committed(store, phases(DEMO)[-1]).complete


def test_how_a_run_is_carried_out_is_no_other_evaluation() -> None:
    changed = load_recipe("demo", ["rollout.workers=1", "reward.processes=3", "stages.2.steps=5", "rollout.max_sequences=8"])
    assert evaluation_settings(changed) == evaluation_settings(DEMO)


@pytest.mark.parametrize("path", sorted(MAY_CHANGE))
def test_what_may_change_is_in_the_recipe(path: str) -> None:
    value = load_recipe("demo", ["evaluation.judge={base_url: 'http://localhost:1', model: m}"]).model_dump()
    for name in path.split("."):
        value = value[name]


def commit(store: Store, phase: str, step: int, **state: bool) -> None:
    checkpoints = Checkpoints(store, phase)
    checkpoints.staging(step)
    checkpoints.commit(step, [], state)


def test_nothing_is_committed_in_an_empty_directory(store: Store) -> None:
    assert [committed(store, phase) for phase in phases(DEMO)] == [Committed(None, False)] * 6


def test_what_completes_each_phase(store: Store) -> None:
    coldstart, sft, stage_1, stage_2, _, evaluate = phases(DEMO)
    store.write_bytes(COLDSTART_MANIFEST, b"{}")
    assert committed(store, coldstart) == Committed(None, True)
    commit(store, "sft", 50)
    assert committed(store, sft) == Committed(50, False)
    commit(store, "sft", 94, final=True)
    assert committed(store, sft) == Committed(94, True)
    commit(store, "stage-1", 16)
    assert committed(store, stage_1) == Committed(16, False)
    commit(store, "stage-1", 20)
    assert committed(store, stage_1) == Committed(20, True)
    commit(store, "stage-2", 40)
    assert committed(store, stage_2) == Committed(40, True), "steps go on over stages"
    assert committed(store, evaluate) == Committed(None, False)


def test_evaluation_is_complete_when_the_newest_checkpoint_is_scored(store: Store) -> None:
    evaluate = phases(DEMO)[-1]
    commit(store, "stage-3", 60)
    store.write_bytes(eval_key("stage-3"), b'{"step": 59}')
    assert not committed(store, evaluate).complete
    store.write_bytes(eval_key("stage-3"), b'{"step": 60}')
    assert committed(store, evaluate).complete
    store.write_bytes(eval_key("stage-3"), b"[]")
    with pytest.raises(BadInput, match="eval/stage-3.json: not a score file; delete it to have it made again$"):
        committed(store, evaluate)


def test_attempts_are_counted_from_their_records(store: Store) -> None:
    records = [AttemptRecord(["x"], 1.0, None, 2.0, 1, 5, 10), AttemptRecord(["x"], 3.0, 5)]
    write_attempt(store, "stage-1", 0, records[0])
    write_attempt(store, "stage-1", 10, records[1])
    write_attempt(store, "stage-10", 3, records[1])
    assert attempts(store, "stage-1") == {0: records[0], 10: records[1]}
    store.write_bytes("phases/stage-1/attempt-10/attempt.json", b"{}")
    with pytest.raises(BadInput, match="attempt-10/attempt.json: not the record of an attempt; delete it to continue$"):
        attempts(store, "stage-1")


def test_a_directory_without_a_recipe(store: Store) -> None:
    with pytest.raises(BadInput, match="there is no recipe.yaml, so this is not a run directory; start a run with visionr1 run$"):
        read_recipe(store)


@pytest.mark.parametrize("name", ["reward.py", "link.py", "rollouts/sft/reward.py", "../run/reward.py"])
def test_a_reward_that_lies_in_the_run_directory_is_refused(name: str, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "run"))
    (tmp_path / "run").mkdir()
    (tmp_path / "outside.py").touch()
    (tmp_path / "run/link.py").symlink_to(tmp_path / "outside.py")
    with pytest.raises(BadInput, match="lies in the run directory, where a file could be planted: copy it"):
        refuse_planted_reward(store, load_recipe("demo", [f"reward.function={tmp_path}/run/{name}:f"]))


def test_a_link_outside_that_leads_into_the_run_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/reward.py").touch()
    (tmp_path / "link.py").symlink_to(tmp_path / "run/reward.py")
    recipe = load_recipe("demo", [f"reward.function={tmp_path}/link.py:f"])
    with pytest.raises(BadInput, match="lies in the run directory"):
        refuse_planted_reward(open_store(str(tmp_path / "run")), recipe)
    refuse_planted_reward(open_store(str(tmp_path / "ru")), recipe)
    refuse_planted_reward(open_store("s3://bucket/run"), recipe)


@pytest.mark.parametrize("command", [["grpo", "--stage", "1"], ["eval"], ["run"]])
def test_no_command_loads_a_planted_reward(command: list[str], tmp_path: Path) -> None:
    run, mark = tmp_path / "run", tmp_path / "mark"
    run.mkdir()
    (run / "reward.py").write_text(f"open({str(mark)!r}, 'w')\n")
    recipe = load_recipe("demo", [f"reward.function={run}/reward.py:f", "coldstart=null", "sft=null"])
    (run / "recipe.yaml").write_text(to_yaml(recipe))
    ended = CliRunner().invoke(app, [command[0], "--run", str(run), *command[1:]])
    assert ended.exit_code == 64, ended.output
    assert "lies in the run directory" in str(ended.exception) + ended.output
    assert not mark.exists()
