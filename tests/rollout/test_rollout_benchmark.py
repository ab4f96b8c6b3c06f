"""A published set answered by a real engine, resumed, and scored."""

import json
from contextlib import closing
from pathlib import Path

import pytest
from rollout_pair import MAX_MODEL_LEN, Pair

from visionr1.data.coldstart.work import WorkLog
from visionr1.data.digits import problems
from visionr1.errors import Stopped
from visionr1.evaluate.benchmarks import Scorer, load_set
from visionr1.evaluate.engine import EngineModel
from visionr1.preflight.base import base_dir
from visionr1.recipe import load_recipe
from visionr1.recipe.evaluation import BenchmarkSource
from visionr1.reward import Grader
from visionr1.rundir.benchmark_scores import BenchmarkScore, read_benchmarks
from visionr1.rundir.layout import EVAL_WORK
from visionr1.storage import open_store

COUNT = 6


def digits_set(folder: Path) -> Path:
    """The demo's held-out problems in MATH-Vision's layout."""
    (folder / "images").mkdir(parents=True)
    lines = []
    for number, row in enumerate(problems("held-out")[:COUNT]):
        (folder / "images" / f"{number}.png").write_bytes(row.images[0])
        question = row.problem.replace("<image>", "")
        image = f"images/{number}.png"
        lines.append({"id": str(number), "question": question, "image": image, "options": [], "answer": row.answer})
    file = folder / "test.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def test_an_engine_that_was_stopped_goes_on_and_gives_the_same_score(pair: Pair, tmp_path: Path) -> None:
    engine = "vllm" if type(pair.engine).__name__ == "VllmEngine" else "hf"
    settings = [
        f"rollout.engine={engine}",
        "rollout.max_sequences=1",
        "evaluation.max_completion_tokens=24",
        "reward.processes=1",
    ]
    recipe = load_recipe("demo", settings)
    source = BenchmarkSource(name="mathvision", path=str(digits_set(tmp_path / "set")))
    one = load_set(source, recipe, None, MAX_MODEL_LEN - 24, pair.builder.count_tokens)
    model = EngineModel(pair.engine, pair.builder, recipe, base_dir(recipe.model))

    def score(folder: str, rounds: int) -> BenchmarkScore:
        """Stopped after so many rounds of replies."""
        left = iter(range(rounds))
        store = open_store(str(tmp_path / folder))
        with closing(WorkLog(store, EVAL_WORK)) as log, Grader(recipe.reward) as grader:
            return Scorer(recipe, store, log, grader, None, lambda: next(left, None) is None).score(one, model, "demo")

    with pytest.raises(Stopped, match="the replies are kept"):
        score("out", 2)
    resumed, whole = score("out", 100), score("other", 100)
    assert resumed.model_dump(exclude={"seconds"}) == whole.model_dump(exclude={"seconds"})
    assert (whole.problems, whole.unanswered) == (COUNT, 0)
    assert whole.completion_tokens > COUNT
    assert whole.prompt_tokens > 50 * COUNT
    assert {"torch", "weights", "program"} <= whole.made_with.keys()
    assert read_benchmarks(open_store(str(tmp_path / "out"))) == [resumed]
