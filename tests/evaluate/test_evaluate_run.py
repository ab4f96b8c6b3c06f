"""The evaluate phase with the demo's model and transformers' generate, from a run directory to its report."""

import json
import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from published_sets import mathvision_set
from rich.console import Console
from typer.testing import CliRunner

from visionr1.capacity.model import DEMO_BASE
from visionr1.cli import app
from visionr1.errors import BadInput
from visionr1.evaluate import run, run_model
from visionr1.evaluate.lengths import evaluation_faults, fitted
from visionr1.recipe import Recipe, load_recipe, to_yaml
from visionr1.recipe.reads import evaluation_settings
from visionr1.recipe.source import Source
from visionr1.report import terminal_summary, write_report
from visionr1.rundir.benchmark_scores import read_benchmarks
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.layout import EVAL, EVAL_WORK, REPORT, SUMMARY, eval_key, eval_samples_key, eval_settings_key
from visionr1.rundir.recipe import adopt_recipe
from visionr1.rundir.scores import Scores
from visionr1.storage import open_store

SETTINGS = [
    "coldstart=null",
    "sft=null",
    "rollout.engine=hf",
    "rollout.device=cpu",
    "evaluation.max_completion_tokens=12",
    "data.held_out.limit=3",
]


def new_run(folder: Path, *settings: str) -> Recipe:
    recipe = load_recipe("demo", [*SETTINGS, *settings])
    open_store(str(folder)).write_bytes("recipe.yaml", to_yaml(recipe).encode())
    return recipe


def commit(folder: Path, phase: str, step: int) -> None:
    """A checkpoint with the base model's weights, and a trainer's file that evaluation must not read."""
    checkpoints = Checkpoints(open_store(str(folder)), phase)
    staged = checkpoints.staging(step)
    for file in DEMO_BASE.iterdir():
        shutil.copyfile(file, staged / file.name)
    (staged / "trainer").mkdir()
    (staged / "trainer" / "0.safetensors").write_bytes(b"no weights")
    names = [path.relative_to(staged).as_posix() for path in staged.rglob("*") if path.is_file()]
    checkpoints.commit(step, checkpoints.publish(step, staged, names), {})


def test_a_run_is_scored_once_and_goes_on_with_what_is_new(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    new_run(folder)
    commit(folder, "stage-1", 20)
    run(str(folder))
    scores = {phase: json.loads((folder / f"eval/{phase}.json").read_text()) for phase in ("base", "stage-1")}
    for phase, step in (("base", 0), ("stage-1", 20)):
        assert (scores[phase]["phase"], scores[phase]["step"], scores[phase]["problems"]) == (phase, step, 3)
        assert scores[phase]["skipped"] == []
        assert 1 <= scores[phase]["completion_tokens_mean"] <= 12
    samples = {phase: (folder / f"eval/{phase}.samples.jsonl").read_text() for phase in scores}
    # The same weights and seeds give the same responses, whether the engine began with them or took them over.
    assert samples["base"] == samples["stage-1"]
    assert len(samples["base"].splitlines()) == 3
    assert json.loads((folder / "summary.json").read_text())["phases"]["stage-1"]["accuracy"] == scores["stage-1"]["accuracy"]
    assert "base model" in (folder / "report.html").read_text()

    (folder / "eval/base.samples.jsonl").write_text("")
    commit(folder, "stage-2", 40)
    run(str(folder))
    assert json.loads((folder / "eval/stage-2.json").read_text())["step"] == 40
    assert (folder / "eval/base.samples.jsonl").read_text() == ""


def test_other_values_score_again_and_the_report_has_one_set_of_scores(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "run"))
    short = load_recipe("demo", [*SETTINGS, "stages=[]", "sft={data: {path: cold.jsonl}}"])
    adopt_recipe(store, short)
    commit(tmp_path / "run", "sft", 20)
    run(store.url)
    longer = short.model_copy(update={"evaluation": short.evaluation.model_copy(update={"max_completion_tokens": 16})})
    adopt_recipe(store, longer)
    write_report(store)
    assert json.loads(store.read_bytes(SUMMARY))["phases"]["sft"]["accuracy"] is None, "a score of other values is not shown"
    run(store.url)
    first, other = (Scores(store, evaluation_settings(recipe)) for recipe in (short, longer))
    lengths = [max(sample.tokens for sample in scores.samples("sft")) for scores in (first, other)]
    assert lengths == [12, 16] and first.folder == EVAL
    assert json.loads(store.read_bytes(eval_settings_key(other.folder)))["evaluation.max_completion_tokens"] == 16
    page = store.read_bytes(REPORT).decode()
    assert eval_samples_key("sft", other.folder) in page and eval_samples_key("sft") not in page
    assert f"{EVAL}/" in page and "scores that were made with other values of the recipe" in page
    mean = json.loads(store.read_bytes(SUMMARY))["phases"]["sft"]["completion_tokens_mean"]
    assert mean == json.loads(store.read_bytes(eval_key("sft", other.folder)))["completion_tokens_mean"]


def test_any_model_is_scored_without_a_run(tmp_path: Path, held_out: Path) -> None:
    recipe = load_recipe("demo", [*SETTINGS, "evaluation.samples=2"])
    found = run_model(str(DEMO_BASE), Source(path=str(held_out)), recipe, tmp_path / "out")
    written = json.loads((tmp_path / "out/score.json").read_text())
    assert (written["problems"], written["samples_per_problem"]) == (found.score.problems, 2) == (6, 2)
    assert [note["id"] for note in written["skipped"]] == ["test.jsonl#6", "test.jsonl#7"]
    assert len((tmp_path / "out/samples.jsonl").read_text().splitlines()) == 12


def test_the_command_scores_a_file_whose_pictures_and_columns_are_elsewhere(tmp_path: Path, held_out: Path) -> None:
    row = json.loads(held_out.read_text().splitlines()[0])
    picture = Path(row["images"][0])
    file = tmp_path / "alone" / "test.jsonl"
    file.parent.mkdir()
    file.write_text(json.dumps({"query": row["problem"], "label": row["answer"], "pictures": [picture.name]}) + "\n")
    words = ["eval", str(DEMO_BASE), "--recipe", "demo", *(part for one in SETTINGS for part in ("--set", one))]
    columns = [part for one in ("problem=query", "answer=label", "images=pictures") for part in ("--column", one)]
    root = ["--image-root", str((held_out.parent / picture).parent)]
    done = CliRunner().invoke(app, [*words, "--data", str(file), *root, *columns])
    assert (done.exit_code, done.stdout) == (0, f"{DEMO_BASE}: accuracy 0.0% on 1 problem\n"), done.stderr
    done = CliRunner().invoke(app, [*words, *root])
    assert (done.exit_code, done.stderr.count("\n")) == (64, 1) and "are about --data" in done.stderr


@pytest.mark.parametrize(
    ("asked", "context", "prompt", "completion"),
    [(16_000, 2048, 1024, 1024), (16, 2048, 2032, 16), (16_000, 8192, 2048, 6144)],
)
def test_lengths_are_cut_to_the_context(asked: int, context: int, prompt: int, completion: int) -> None:
    small = fitted(load_recipe("vision-r1", [f"evaluation.max_completion_tokens={asked}"]), context)
    assert (small.data.max_prompt_tokens, small.evaluation.max_completion_tokens) == (prompt, completion)


def test_a_model_is_asked_for_no_more_than_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = load_recipe("vision-r1")
    small = fitted(recipe, 2048)
    assert "note: the model takes 2048 tokens" in capsys.readouterr().err
    assert evaluation_faults(small, DEMO_BASE) == []
    assert fitted(recipe, 18_048) is fitted(recipe, None) is recipe
    assert evaluation_faults(recipe, DEMO_BASE)[0].endswith("may need 18048 tokens, and the model takes 2048: lower them")


def test_runs_that_cannot_be_evaluated_say_why(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"there is no recipe.yaml"):
        run(str(tmp_path / "nothing"))
    new_run(tmp_path / "blind", "data.held_out=null")
    with pytest.raises(BadInput, match=r"data.held_out is null"):
        run(str(tmp_path / "blind"))
    new_run(tmp_path / "young", "sft={data: {path: cold.jsonl}}")
    with pytest.raises(BadInput, match="no phase has committed a checkpoint"):
        run(str(tmp_path / "young"))


def test_held_out_data_without_a_usable_row_is_refused(tmp_path: Path, held_out: Path) -> None:
    lines = held_out.read_text().splitlines()
    held_out.write_text("\n".join(lines[-2:]) + "\n")
    with pytest.raises(BadInput, match="none of the 2 rows can be used"):
        run_model(str(DEMO_BASE), Source(path=str(held_out)), load_recipe("demo", SETTINGS), None)


def test_a_run_scores_every_stage_on_its_benchmarks_before_its_held_out_problems(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    file = mathvision_set(tmp_path / "set", 3)
    new_run(folder, f"evaluation.benchmarks=[{{name: mathvision, path: '{file}'}}]")
    commit(folder, "stage-1", 20)
    run(str(folder))
    store = open_store(str(folder))
    scores = {score.scored: score for score in read_benchmarks(store)}
    assert sorted(scores) == ["base", "stage-1"]
    assert scores["base"].conditions == scores["stage-1"].conditions
    assert (scores["stage-1"].step, scores["stage-1"].problems, scores["stage-1"].seen) == (20, 3, [])
    assert "torch" in scores["base"].made_with
    assert 'id="benchmarks"' in store.read_bytes(REPORT).decode()
    assert len(json.loads(store.read_bytes(SUMMARY))["benchmarks"]) == 2
    Console().print(terminal_summary(store))
    assert "MATH-Vision, 3 problems of test.jsonl" in capsys.readouterr().out
    replies = sum(1 for key in store.list(EVAL_WORK) for _ in store.read_bytes(key).splitlines())
    assert replies == 3, "the same weights are not asked twice"


def test_scores_of_other_held_out_problems_share_no_curve(tmp_path: Path, held_out: Path) -> None:
    folder = tmp_path / "run"
    new_run(folder, f"data.held_out={{path: '{held_out}'}}")
    commit(folder, "stage-1", 20)
    run(str(folder))
    held_out.write_text("".join(held_out.read_text().splitlines(keepends=True)[:4]))
    scored = json.loads((folder / "summary.json").read_text())["phases"]
    assert scored["base"]["accuracy"] is not None
    (folder / "eval/stage-1.json").unlink()
    run(str(folder))
    for phase in ("base", "stage-1"):
        assert json.loads((folder / f"eval/{phase}.json").read_text())["problems"] == 4, (
            "both are scored on the file as it is now"
        )


def test_two_workers_give_the_replies_of_one(tmp_path: Path, held_out: Path) -> None:
    recipe = load_recipe("demo", [*SETTINGS, "evaluation.samples=2"])
    shared = recipe.model_copy(update={"evaluation": recipe.evaluation.model_copy(update={"workers": 2})})
    source = Source(path=str(held_out))
    # Ray reads its token where it is imported, which another test may have done in this process.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        two = process.submit(run_model, "demo", source, shared, None).result()
    one = run_model("demo", source, recipe, None)
    assert one.samples == two.samples
    assert one.score == two.score
