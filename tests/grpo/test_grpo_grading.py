"""Grades of groups that come one after the other are those of one call with all of them."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from visionr1.data.rows import Row
from visionr1.errors import BadInput
from visionr1.grpo.grading import Grading
from visionr1.recipe.reward import Reward
from visionr1.reward import Grader
from visionr1.rollout.types import Reply

ROWS = [Row(f"row-{number}", "How many?", (), str(number)) for number in range(6)]
IDS = np.zeros(3, dtype=np.int32)
GROUPS = [
    [Reply(f"<think>t</think><answer>{answer}</answer>", IDS, "stop") for answer in (number, "1/2 + 1", 7)] for number in range(6)
]


def test_parts_in_any_order_have_the_grades_of_the_whole() -> None:
    with Grader(Reward(processes=1)) as grader:
        whole = grader.grade(
            [reply.text for group in GROUPS for reply in group],
            [row.answer for row, group in zip(ROWS, GROUPS, strict=True) for _ in group],
        )
        with Grading(grader, ROWS) as grading:
            for part in ([4, 1], [5], [0, 2, 3]):
                grading.add({index: GROUPS[index] for index in part})
            assert grading.grades() == whole
    assert {grade.overall for grade in whole} == {0.0, 1.0}


def test_grading_begins_before_the_last_group_is_there() -> None:
    begun = threading.Event()

    class Slow(Grader):
        def grade(self, *arguments, **named):  # type: ignore[no-untyped-def]
            begun.set()
            return super().grade(*arguments, **named)

    with Slow(Reward(processes=1)) as grader, Grading(grader, ROWS[:2]) as grading:
        grading.add({1: GROUPS[1]})
        assert begun.wait(60), "the first group waits for the second"
        grading.add({0: GROUPS[0]})
        assert len(grading.grades()) == 6


def test_a_user_s_function_gets_the_whole_step_in_one_call(tmp_path: Path) -> None:
    path = tmp_path / "reward.py"
    path.write_text("def score(rows):\n    return [{'overall': len(rows) / 100, 'format': 1, 'accuracy': 0} for _ in rows]\n")
    with Grader(Reward(function=f"{path}:score", processes=1)) as grader, Grading(grader, ROWS[:2]) as grading:
        grading.add({1: GROUPS[1]})
        grading.add({0: GROUPS[0]})
        assert {grade.overall for grade in grading.grades()} == {0.06}


def test_what_goes_wrong_in_the_thread_reaches_the_step() -> None:
    class Broken(Grader):
        def grade(self, *arguments, **named):  # type: ignore[no-untyped-def]
            raise BadInput("answers cannot be graded: no math-verify")

    with Broken(Reward(processes=1)) as grader, Grading(grader, ROWS[:1]) as grading:
        grading.add({0: GROUPS[0]})
        with pytest.raises(BadInput, match="no math-verify"):
            grading.grades()
