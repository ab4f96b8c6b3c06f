"""Several samples per problem: which one is kept, how they vote, how hard a problem is; and comparing whole sets."""

from __future__ import annotations

import asyncio
import io
import json
import multiprocessing
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from visionr1.data.coldstart.bridge import Bridged
from visionr1.data.coldstart.choose import Outcome, judge_all, majority, sift
from visionr1.data.coldstart.duplicates import Duplicates
from visionr1.data.coldstart.evaluation_sets import EvaluationSets
from visionr1.data.coldstart.filters import Candidate, Kept, Rejection, judge, repetition, tells_answer
from visionr1.data.coldstart.judging import MANY, Judging
from visionr1.data.coldstart.outcomes import Outcomes
from visionr1.data.coldstart.reply import Reply
from visionr1.data.rows import Row
from visionr1.recipe.coldstart import ColdStart, Filters
from visionr1.recipe.source import Source


def same(pairs: list[tuple[str, str]]) -> list[bool]:
    return [given == truth for given, truth in pairs]


def says(answer: str, thought: str = "So it is.") -> Reply:
    return Reply(f"<think> {thought} </think> Final Answer: {answer}", "", "stop")


def recipe(**values: Any) -> ColdStart:
    return ColdStart.model_validate({"problems": Source(path="unused"), **values})


def sifted(replies: list[Reply | Rejection], truth: str = "8", **values: Any) -> Outcome:
    settings = recipe(**values)
    problem = Bridged(0, "r#0", truth, 1, tuple(replies))
    (outcome,) = sift([problem], judge_all([problem.replies], settings.filters), settings, same)
    return outcome


@pytest.mark.parametrize(("choice", "thought"), [("first", "One two."), ("shortest", "One."), ("longest", "One two three.")])
def test_one_good_sample_is_kept(choice: str, thought: str) -> None:
    replies = [says("7", "No."), says("8", "One two."), says("8", "One."), says("8", "One two three.")]
    outcome = sifted([*replies], choose=choice)
    assert outcome.result == Kept(thought, "8", True) and outcome.solved == 0.75
    assert [(one.sample, one.rejection.rule) for one in outcome.dropped] == [(0, "wrong answer")]


def test_difficulty_counts_right_answers_also_of_samples_that_were_dropped() -> None:
    failed = Rejection("request failed", "")
    outcome = sifted(
        [says("8", "As described."), says("8", "Hence the answer is 7."), replace(says("8"), finish_reason="length"), failed]
    )
    assert outcome.solved == 0.5 and isinstance(outcome.result, Rejection) and outcome.result.rule == "contradicts itself"
    assert sifted([failed]).solved is None
    assert sifted([says("8"), says("8")], truth="").solved is None


def test_samples_vote_where_no_answer_is_known() -> None:
    voted = sifted([says("8"), says("7"), says("8")], truth="")
    assert voted.result == Kept("So it is.", "8", True) and voted.truth == "8"
    split = sifted([says("8"), says("7")], truth="")
    assert isinstance(split.result, Rejection) and split.result.rule == "no majority"


@pytest.mark.parametrize(
    ("answers", "winner"),
    [
        (["8", "8", "7"], "8"),
        (["8", "8", "7", "7"], None),
        (["8", None, None], None),
        (["8", "8", None, None], None),
        (["8"], None),
        ([None], None),
        ([], None),
        (["8.0", "8", "7"], "8.0"),
    ],
)
def test_majority(answers: list[str | None], winner: str | None) -> None:
    def equal(pairs: list[tuple[str, str]]) -> list[bool]:
        return [float(one) == float(other) for one, other in pairs]

    assert majority(answers, equal) == winner


def words(count: int, seed: int = 0) -> str:
    pick = random.Random(seed)
    return " ".join(pick.choice(["the", "of", "side", "is", "angle", "to", "so", "half", "base", "sum"]) for _ in range(count))


LOOP = " ".join(["Wait, let me check this again from the start, since it may be wrong."] * 20)
GERMAN = " ".join(f"Der Winkel {n} liegt neben dem Kreis und hat denselben Bogen." for n in range(12))


@pytest.mark.parametrize(
    ("thought", "filters", "rule"),
    [
        (LOOP, {}, "repeats itself"),
        (LOOP, {"off": ["repeats itself"]}, None),
        (LOOP, {"most_repeated": 0.99}, None),
        ("The area is 12. 所以三角形的面积是十二，没有别的可能。", {}, "wrong language"),
        ("The area is 12. 所以三角形的面积是十二，没有别的可能。", {"off": ["wrong language"]}, None),
        (GERMAN, {}, "wrong language"),
        ("The angle α + β = 180° and √2 ≈ 1.41, so ℓ ∥ m.", {}, None),
        (words(60), {"most_repeated": 1.0}, None),
        ("Too few words.", {"min_words": 4}, "too short"),
        ("Four words are here.", {"min_words": 4}, None),
        ("Four words are here.", {"max_words": 3}, "too long"),
        ("The given answer is 8.", {}, "answer was told"),
        ("The given answer is 8.", {"off": ["answer was told"]}, None),
        ("I cannot see the image.", {"off": ["image not seen"]}, None),
        ("As described, it is so.", {"off": ["speaks of the description"]}, None),
    ],
)
def test_each_rule_by_itself(thought: str, filters: dict[str, Any], rule: str | None) -> None:
    judged = judge(says("8", thought), Filters.model_validate(filters))
    assert (judged.rule if isinstance(judged, Rejection) else None) == rule


def test_a_wrong_answer_keeps_its_own_answer_where_the_rule_is_off() -> None:
    assert sifted([says("7")], filters={"off": ["wrong answer"]}).result == Kept("So it is.", "7", False)
    refused = Reply("<think> Hm. </think> I'm sorry, but I can't help with that. Final Answer: 8", "", "stop")
    assert isinstance(judge(refused, Filters(off=("refused",))), Candidate)
    assert isinstance(sifted([says("8", "Hence the answer is 7.")], filters={"off": ["contradicts itself"]}).result, Kept)


def test_repetition_of_short_and_plain_texts_is_no_loop() -> None:
    assert repetition(["a"] * 49) == 0 and repetition(["a"] * 60) > 0.9
    assert repetition(words(500).split()) < 0.05


@pytest.mark.parametrize(
    ("description", "tells"),
    [
        ("A triangle. The answer is 12.", True),
        ("**Answer**: 12", True),
        ("A triangle with a side of 12.", False),
        ("The answer is not given. A side has 120 cm.", False),
    ],
)
def test_descriptions_that_tell_the_answer(description: str, tells: bool) -> None:
    assert (tells_answer(description, "12") is not None) == tells


def test_near_duplicates_are_found_among_many() -> None:
    duplicates = Duplicates(0.9)
    texts = [words(200, seed) for seed in range(300)]
    assert [duplicates.add(f"r#{place}", text) for place, text in enumerate(texts)] == [None] * 300
    assert duplicates.add("r#300", f"{texts[7]} truly") == "r#7"
    assert duplicates.add("r#301", words(200, 1000)) is None
    assert duplicates.add("r#302", "So.") is None and duplicates.add("r#303", "so.") == "r#302"


def encode(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def drawing(seed: int, size: int = 224) -> Image.Image:
    image, pick = Image.new("RGB", (size, size), "white"), random.Random(seed)
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        corners = [pick.random() * size for _ in range(4)]
        draw.line(corners, fill=(pick.randrange(200), 0, 90), width=max(2, size // 40))
    return image


def test_problems_of_evaluation_sets_are_found(tmp_path: Path) -> None:
    long = "A ladder of ten metres leans on a wall and its foot is six metres from the wall, how high does it reach"
    rows = []
    for seed in range(30):
        (tmp_path / f"{seed}.png").write_bytes(encode(drawing(seed)))
        question = f"<image>{long}?" if seed == 3 else f"<image>What is the length of side {seed}?"
        rows.append({"images": [f"{seed}.png"], "problem": question, "answer": "1"})
    (tmp_path / "held.jsonl").write_text("\n".join(map(json.dumps, rows)))
    sets = EvaluationSets([str(tmp_path / "held.jsonl")])

    def look(image: Image.Image, question: str, kind: str = "PNG") -> str | None:
        return sets.look(Row("r#0", f"<image>{question}", (encode(image, kind),), "1"))

    other = drawing(99)
    assert "the picture of" in (look(drawing(5), "What is the length of side 5?") or "")
    assert "held.jsonl#5" in (look(drawing(5).resize((150, 150)), "What is the length of side x?", "JPEG") or "")
    assert look(drawing(5), "Which of these lines would a painter like best?") is None
    assert look(other, "What is the length of side 5?") is None
    assert "13 words in a row" in (look(other, f"Look. {long} in metres?") or "")
    assert EvaluationSets([]).look(Row("r#0", long, (), "1")) is None


def test_different_pictures_have_different_hashes(tmp_path: Path) -> None:
    rows = []
    for seed in range(200):
        (tmp_path / f"{seed}.png").write_bytes(encode(drawing(seed)))
        rows.append({"images": [f"{seed}.png"], "problem": "<image>Find x.", "answer": "1"})
    (tmp_path / "held.jsonl").write_text("\n".join(map(json.dumps, rows)))
    sets = EvaluationSets([str(tmp_path / "held.jsonl")])
    found = [sets.look(Row("r", "<image>Find x.", (encode(drawing(seed)),), "1")) for seed in range(200, 400)]
    assert found == [None] * 200


def test_outcomes_lie_on_disk_and_come_back_in_order() -> None:
    first = Outcome(0, "r#0", 1, "8", Rejection("refused", "x" * 1000), (), None)
    second = sifted([says("7"), says("8")])
    with Outcomes(3, keep_texts=True) as outcomes:
        outcomes.add(replace(second, index=2, images=2))
        outcomes.add(first)
        assert (len(outcomes), outcomes.kept, outcomes.several_images) == (2, 1, 1)
        assert [*outcomes] == [first, replace(second, index=2, images=2)]
        outcomes.drop(second, Rejection("near duplicate", "of r#1"))
        assert outcomes.kept == 0 and outcomes.dropped == {"refused": 1, "near duplicate": 1}
        assert outcomes.examples() == {"refused": ("r#0", "x" * 300), "near duplicate": ("r#0", "of r#1")}
    with Outcomes(3, keep_texts=False) as outcomes:
        outcomes.add(second)
        assert [*outcomes] == [replace(second, dropped=())]


def test_many_replies_are_judged_in_another_process_and_the_same_way() -> None:
    thoughts = [f"As described, {place}." if place % 3 else "So." for place in range(MANY)]
    problems = [Bridged(place, f"r#{place}", "8", 1, (says("8", thought),)) for place, thought in enumerate(thoughts)]

    async def judged() -> list[Any]:
        judging = Judging(Filters())
        try:
            return [*await judging.judge(problems), *await judging.judge(problems[:2])]
        finally:
            judging.close()

    expected = judge_all([problem.replies for problem in problems], Filters())
    assert asyncio.run(judged()) == [*expected, *expected[:2]]
    assert not multiprocessing.active_children()
