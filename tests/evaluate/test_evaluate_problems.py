"""Sampling and grading of held-out problems, with an engine that gives known responses."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from PIL import Image

from visionr1.data.rows import Row
from visionr1.errors import Stopped
from visionr1.evaluate.problems import evaluate_problems, load_held_out, problem_seed, thumbnail
from visionr1.model.prompt import Prompt
from visionr1.recipe import load_recipe
from visionr1.recipe.source import Source
from visionr1.reward import Grader
from visionr1.rollout.types import Completion, Group, RolloutEngine, Sampling

RECIPE = load_recipe("demo", ["evaluation.samples=2", "rollout.max_sequences=2", "evaluation.max_completion_tokens=7"])


class Builder:
    """Each character is a token."""

    def build(self, row: Row) -> Prompt:
        return Prompt([ord(character) for character in row.problem], [])

    def count_tokens(self, row: Row) -> int:
        return len(row.problem)


class Engine:
    """Answers with the hint in the problem: always right in the first sample, wrong and cut in the second."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, Sampling, list[int]]] = []

    def generate(self, prompts: list[Prompt], sampling: Sampling, seeds: list[int]) -> list[Group]:
        self.calls.append((len(prompts), sampling, seeds))
        groups = []
        for prompt in prompts:
            right = Completion(f"<think>Wait.</think><answer>{chr(prompt.token_ids[-1])}</answer>", [1] * 5, [0.0] * 5, "stop")
            cut = Completion("<think>Hmm", [1] * 7, [0.0] * 7, "length")
            groups.append(Group(prompt.token_ids, [right, cut]))
        return groups


@pytest.fixture
def grader() -> Iterator[Grader]:
    with Grader(RECIPE.reward) as made:
        yield made


def test_good_problems_are_scored_and_bad_ones_listed(held_out: Path, grader: Grader) -> None:
    engine = Engine()
    problems = load_held_out(Source(path=str(held_out)), RECIPE, Builder())
    found = evaluate_problems(cast(RolloutEngine, engine), Builder(), grader, problems.rows, RECIPE, "a model")
    assert (found.score.accuracy, found.score.standard_error, found.score.truncated_ratio) == (0.5, 0.0, 0.5)
    assert (found.score.problems, found.score.samples_per_problem, found.score.completion_tokens_mean) == (6, 2, 6.0)
    assert [(note.id, note.kind) for note in problems.skipped] == [
        ("test.jsonl#6", "image unreadable"),
        ("test.jsonl#7", "answer missing"),
    ]
    assert [call[0] for call in engine.calls] == [4, 2]
    assert engine.calls[0][1] == Sampling(n=2, max_tokens=7, temperature=0.6, top_p=0.95)
    assert engine.calls[1][2] == [problem_seed(RECIPE.seed, f"test.jsonl#{place}") for place in (4, 5)]


def test_records_hold_what_the_report_shows(held_out: Path, grader: Grader) -> None:
    problems = load_held_out(Source(path=str(held_out)), RECIPE, Builder())
    first, second, *_ = evaluate_problems(
        cast(RolloutEngine, Engine()), Builder(), grader, problems.rows, RECIPE, "a model"
    ).samples
    assert (first.id, first.sample, first.truth, first.answer) == ("test.jsonl#0", 0, "0", "0")
    assert (first.accuracy, first.format, first.tokens, first.finish_reason) == (1.0, 1.0, 5, "stop")
    assert (second.sample, second.accuracy, second.format, second.finish_reason) == (1, 0.0, 0.0, "length")
    assert Image.open(io.BytesIO(base64.b64decode(first.images[0]))).size == (56, 56)
    assert second.images == ()


def test_only_some_problems_keep_their_pictures(grader: Grader) -> None:
    data = io.BytesIO()
    Image.new("RGB", (28, 28)).save(data, "PNG")
    rows = [Row(str(place), f"<image>{place % 10}", (data.getvalue(),), "1") for place in range(100)]
    found = evaluate_problems(cast(RolloutEngine, Engine()), Builder(), grader, rows, RECIPE, "a model")
    shown = [sample.id for sample in found.samples if sample.images]
    assert (len(shown), shown[0], shown[-1]) == (24, "0", "99")


def test_a_request_to_stop_is_heard_between_rounds(held_out: Path, grader: Grader) -> None:
    engine = Engine()
    problems = load_held_out(Source(path=str(held_out)), RECIPE, Builder())
    with pytest.raises(Stopped, match="while evaluating a model"):
        evaluate_problems(
            cast(RolloutEngine, engine), Builder(), grader, problems.rows, RECIPE, "a model", lambda: bool(engine.calls)
        )
    assert len(engine.calls) == 1


def test_thumbnails_are_small() -> None:
    data = io.BytesIO()
    Image.effect_noise((2000, 1000), 80).convert("RGB").save(data, "JPEG")
    made = base64.b64decode(thumbnail(data.getvalue()))
    image = Image.open(io.BytesIO(made))
    assert (image.format, image.size) == ("PNG", (192, 96))
    assert len(made) < 40_000
