"""Each set's rule on replies with known verdicts."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from visionr1.benchmarks.blocks import after_thought, answer_block, boxed
from visionr1.benchmarks.dynamath import DYNAMATH
from visionr1.benchmarks.latex_value import latex_value
from visionr1.benchmarks.mathvision import MATHVISION
from visionr1.benchmarks.mathvista import MATHVISTA, edits
from visionr1.benchmarks.mm_math import MM_MATH
from visionr1.benchmarks.problem import Benchmark, Problem
from visionr1.benchmarks.sets import BENCHMARKS
from visionr1.benchmarks.we_math import WE_MATH
from visionr1.data.rows import Row

DATA = Path(__file__).parent / "data"


def problem(row_id: str = "f#1", **facts: Any) -> Problem:
    return Problem(Row(row_id, "", (), str(facts.get("answer", ""))), "", facts)


def never(given: str, true: str) -> bool:
    raise AssertionError(f"{given} and {true} are compared by the set's own rule")


def test_latex_has_the_value_that_the_authors_program_gives_it() -> None:
    for text, value in json.loads((DATA / "latex_values.json").read_text())["values"]:
        ours = latex_value(text)
        assert (ours if ours is None else round(ours, 2)) == (value if value is None else pytest.approx(value)), text


@pytest.mark.parametrize(
    "text",
    ["9^{9^{9^9}}", "100000!", "\\binom{10000000}{5000000}", "(" * 5000 + "1" + ")" * 5000, "1+" * 3000 + "1/0", "\\sqrt{-1}"],
)
def test_a_hostile_expression_has_no_value_and_takes_no_time(text: str) -> None:
    assert latex_value(text) is None


def test_made_up_replies_to_mathvision_get_the_authors_answer_and_verdict() -> None:
    for line in (DATA / "mathvision_made_up.jsonl").read_text().splitlines():
        row = json.loads(line)
        one = problem(**row)
        answer = MATHVISION.rule.read(one, row["response"])
        assert answer == row["model_answer"], row
        assert MATHVISION.rule.right(one, answer, never) == row["correct"], row


@pytest.mark.parametrize(
    ("facts", "reply", "verdict"),
    [
        ({"question_type": "multi_choice", "choices": ["3 cm", "13 cm"], "answer": "13 cm"}, "(B) of course", True),
        ({"question_type": "multi_choice", "choices": ["3 cm", "13 cm"], "answer": "13 cm"}, "B", True),
        ({"question_type": "multi_choice", "choices": ["3 cm", "13 cm"], "answer": "13 cm"}, "13cm", True),
        ({"question_type": "multi_choice", "choices": ["Yes", "No"], "answer": "No"}, 'The answer is "No".', True),
        ({"question_type": "free_form", "answer_type": "integer", "answer": "5"}, "5.7", True),
        ({"question_type": "free_form", "answer_type": "integer", "answer": "5"}, "so it is \\boxed{5}", True),
        ({"question_type": "free_form", "answer_type": "integer", "answer": "1200"}, "\\boxed{1,200 cm}", True),
        ({"question_type": "free_form", "answer_type": "integer", "answer": "5"}, "\\boxed{5 or 6}", False),
        ({"question_type": "free_form", "answer_type": "integer", "answer": "5"}, "five", False),
        ({"question_type": "free_form", "answer_type": "integer", "answer": "5"}, "inf", False),
        ({"question_type": "free_form", "answer_type": "float", "precision": 1.0, "answer": "1.2"}, "1.249", True),
        ({"question_type": "free_form", "answer_type": "float", "precision": 2.0, "answer": "1.20"}, "1.2", False),
        ({"question_type": "free_form", "answer_type": "list", "answer": "[1, 2]"}, "[1, 2]", True),
    ],
)
def test_mathvista_takes_the_nearest_choice_and_the_precision(facts: dict[str, Any], reply: str, verdict: bool) -> None:
    one = problem(**{"answer_type": "text", **facts})
    assert MATHVISTA.rule.right(one, MATHVISTA.rule.read(one, reply), never) == verdict


def test_edits_counts_insertions_deletions_and_changes() -> None:
    assert [edits("kitten", "sitting"), edits("", "abc"), edits("abc", ""), edits("a", "a")] == [3, 3, 3, 0]


@pytest.mark.parametrize(
    ("kind", "truth", "reply", "verdict"),
    [
        ("float", "3.142", '{"solution": "x", "short answer": "3.1415"}', True),
        ("float", "3.142", '{"solution": "\\frac{1}{2}", "short answer": "3.142 cm"}', True),
        ("float", "6.283", '{"short answer": "2π"}', True),
        ("float", "3.142", '{"short answer": "3.144"}', False),
        ("float", "3.142", "3.142", False),
        ("multiple choice", "B", '{"short answer": "B"}', True),
        ("multiple choice", "B", '{"short answer": "(B) 4"}', True),
        ("multiple choice", "B", '{"short answer": "It is B"}', False),
        ("text", "yes", '{"short answer": "oh yes"}', True),
        ("text", "yes", "oh yes", False),
    ],
)
def test_dynamath_reads_the_short_answer(kind: str, truth: str, reply: str, verdict: bool) -> None:
    one = problem(answer_type=kind, answer=truth)
    assert DYNAMATH.rule.right(one, DYNAMATH.rule.read(one, reply), never) == verdict


def test_dynamath_has_an_average_and_a_worst_case() -> None:
    right = [
        (problem(f"variant{variant}#{question}"), question == 1 or (question == 2 and variant < 3))
        for question in (1, 2, 3)
        for variant in range(4)
    ]
    assert DYNAMATH.figures(right) == {"worst case": pytest.approx(1 / 3)}
    assert sum(verdict for _, verdict in right) / len(right) == pytest.approx(7 / 12)


@pytest.mark.parametrize(
    ("reply", "letter"), [("So. Answer: B", "B"), ("Answer: <<C>>. Because", "C"), ("Answer: none", ""), ("D", "D")]
)
def test_we_math_reads_the_letter_after_the_last_answer(reply: str, letter: str) -> None:
    assert WE_MATH.rule.read(problem(), reply) == letter


def test_we_math_is_strict_and_loose() -> None:
    # Steps and whole of five problems: all right; whole wrong after right steps; a wrong step and the whole wrong;
    # whole right with one wrong step; whole right with all steps wrong.
    outcomes = [((1, 1), 1), ((1, 1), 0), ((0, 1), 0), ((0, 1), 1), ((0, 0), 1)]
    right = [
        (problem(key=f"2steps_{part}", ID=f"p{number}"), bool(verdict))
        for number, (steps, whole) in enumerate(outcomes)
        for part, verdict in (("1", steps[0]), ("2", steps[1]), ("multi", whole))
    ]
    figures = WE_MATH.figures([*right, (problem(key="3steps_1", ID="alone"), True)])
    assert figures["strict"] == pytest.approx((5 - 0.5 * 1 - 2 - 1) / 5)
    assert figures["loose"] == pytest.approx((5 - 0.5 * 1 - 1 - 1) / 5)
    assert {name: round(5 * figures[name]) for name in ("IK", "IG", "CM strict", "RM strict", "RM loose")} == {
        "IK": 1,
        "IG": 1,
        "CM strict": 1,
        "RM strict": 2,
        "RM loose": 1,
    }


@pytest.mark.parametrize(
    ("solution", "reply", "verdict"),
    [
        ("so \\boxed{2.5}", "it is \\boxed{\\frac{5}{2}}", True),
        ("so \\boxed{2.5}", "it is 2.5", False),
        ("so \\boxed{1.732}", "\\boxed{\\sqrt{3}}", True),
        ("so \\boxed{30^{\\circ}}", "\\boxed{30}", True),
        ("\\boxed{1} or \\boxed{2}", "\\boxed{2, 1}", True),
        ("\\boxed{1} or \\boxed{2}", "\\boxed{1}", False),
        ("\\boxed{x+1}", "\\boxed{1+x}", True),
    ],
)
def test_mm_math_compares_boxes(solution: str, reply: str, verdict: bool) -> None:
    one = problem(solution=solution)
    same = {("1+x", "x+1"): True}
    answer = MM_MATH.rule.read(one, reply)
    assert MM_MATH.rule.right(one, answer, lambda given, true: same.get((given, true), False)) == verdict


def test_an_answer_block_is_found_and_a_cut_thought_is_no_answer() -> None:
    reply = "<think>It is \\boxed{3}.</think><answer> Final Answer:4 </answer>"
    assert answer_block(reply) == "4"
    assert answer_block("<think>no end") is None
    assert after_thought("<think>a</think> b") == " b"
    assert after_thought("<think>The answer is 5") == ""
    assert after_thought("The answer is 5") == "The answer is 5"
    assert boxed("\\boxed{a_{1}} and \\boxed{b} and \\boxed{c") == ["a_{1}", "b"]


def test_the_first_boxes_of_a_reply_of_boxes_are_found_in_no_time() -> None:
    begun = time.monotonic()
    assert boxed("\\boxed{" * 30_000 + "1}") == ["1"]
    assert time.monotonic() - begun < 1
    assert boxed("} { \\boxed{a} \\boxed{{b}{c}} \\boxed{\\boxed{d}") == ["a", "{b}{c}", "d"]


@pytest.mark.parametrize("benchmark", BENCHMARKS.values(), ids=list(BENCHMARKS))
@pytest.mark.parametrize("reply", ["9" * 5000, "1" + "0" * 400, "-" * 5000, "1e999", "\\frac{1}{10^{900}}", "(" * 5000], ids=len)
def test_a_hostile_answer_is_wrong_and_takes_no_time(benchmark: Benchmark, reply: str) -> None:
    facts: dict[str, Any] = {
        "question_type": "free_form",
        "answer_type": "float",
        "precision": 2.0,
        "answer": "4",
        "solution": "\\boxed{4}",
    }
    one = problem(**facts, options=[], choices=None)
    begun = time.monotonic()
    for said in (
        reply,
        f"The answer is {reply}.",
        f"\\boxed{{{reply}}}",
        f"\\boxed{{{reply}, 4}}",
        f'{{"short answer": "{reply}"}}',
    ):
        answer = benchmark.rule.read(one, said)
        assert not benchmark.rule.right(one, answer, lambda given, true: False)
    assert time.monotonic() - begun < 2
