"""Kinds of truth, each a table of its own: `kinds.jsonl` has truths with right and wrong answers, `public.jsonl` whole responses
for truths from public data sets and reports."""

import json
from pathlib import Path
from typing import Any

import pytest

from visionr1.data.options import read_options
from visionr1.reward import Grader

HERE = Path(__file__).parent
TRUTHS = [json.loads(line) for line in (HERE / "kinds.jsonl").read_text().splitlines()]
PUBLIC = [json.loads(line) for line in (HERE / "public.jsonl").read_text().splitlines()]
KINDS = sorted({row["kind"] for row in TRUTHS})


def wrapped(answer: str) -> str:
    return f"<think>Let me see.</think><answer> Final Answer:{answer} </answer>"


@pytest.mark.parametrize("kind", KINDS)
def test_every_answer_of_a_kind_is_paid_exactly_if_it_is_right(grader: Grader, kind: str) -> None:
    cases: list[tuple[dict[str, Any], str, bool]] = [
        (row, answer, verdict == "right")
        for row in TRUTHS
        if row["kind"] == kind
        for verdict in ("right", "wrong")
        for answer in row[verdict]
    ]
    grades = grader.grade(
        [wrapped(answer) for _, answer, _ in cases],
        [row["truth"] for row, _, _ in cases],
        options=[read_options(row.get("options")) for row, _, _ in cases],
    )
    faults = [
        f"{answer!r} for {row['truth']!r} should be {'right' if right else 'wrong'}: {grade}"
        for (row, answer, right), grade in zip(cases, grades, strict=True)
        if grade.overall != right
    ]
    assert not faults, "\n".join(faults)


def test_each_kind_has_right_and_wrong_answers() -> None:
    assert len(KINDS) >= 15
    for kind in KINDS:
        rows = [row for row in TRUTHS if row["kind"] == kind]
        assert min(sum(len(row[verdict]) for row in rows) for verdict in ("right", "wrong")) >= 3


def test_public_responses_are_graded_as_listed(grader: Grader) -> None:
    grades = grader.grade([row["response"] for row in PUBLIC], [row["answer"] for row in PUBLIC])
    faults = [(row, grade) for row, grade in zip(PUBLIC, grades, strict=True) if grade.overall != row["right"]]
    assert not faults
    assert len(PUBLIC) > 500 and all(grade.rule for grade in grades if grade.overall)
