"""The format of section 3.1 and the two built-in rewards."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from visionr1.errors import BadInput
from visionr1.recipe.reward import Reward
from visionr1.reward import Grader
from visionr1.reward.hfrrf import hfrrf, read_response, zero

GOOD = [
    "<think>a</think><answer>B</answer>",
    "<think> a </think><answer> Final Answer:B </answer>",
    "<think>\nfirst\nsecond\n</think>\n<answer>\nFinal Answer: B\n</answer>\n",
    "\n \t<think>a</think>\n\n  <answer>final answer : (B)</answer>  \n",
    "<think>a < b, so b > a. Final Answer: C?</think><answer>FINAL ANSWER: **B**</answer>",
    "<think>Hmm. Wait, \\boxed{C}? No.</think> <answer>The answer is B.</answer>",
    "<think>我想</think><answer> Final Answer:B. 3π </answer>",
]
FAULTY = {
    "": "no <think>",
    "B": "no <think>",
    "<think>a</think>": "no <answer>",
    "<think>a": "no </think>",
    "<think>a</think><answer>B": "no </answer>",
    "<think>a</think><answer> Final Answer:": "no </answer>",
    "<answer>B</answer>": "no <think>",
    "<think></think><answer>B</answer>": "empty thought",
    "<think> \n </think><answer>B</answer>": "empty thought",
    "<think>a</think><answer></answer>": "empty answer",
    "<think>a</think><answer> \n </answer>": "empty answer",
    "<think>a</think><answer> Final Answer: </answer>": "empty answer",
    "x<think>a</think><answer>B</answer>": "text outside the blocks",
    "<think>a</think>x<answer>B</answer>": "text outside the blocks",
    "<think>a</think><answer>B</answer>x": "text outside the blocks",
    "<think>a</think><answer>B</answer><|im_end|>": "text outside the blocks",
    "<think>a</think>\\boxed{B}<answer>B</answer>": "text outside the blocks",
    "<think>a</think><think>b</think><answer>B</answer>": "2 times <think>",
    "<think>a</think></think><answer>B</answer>": "2 times </think>",
    "<think>a</think><answer>A</answer><answer>B</answer>": "2 times <answer>",
    "<think>a</think><answer>A</answer> junk <answer>B</answer>": "2 times <answer>",
    "<think>a</think><answer>B</answer></answer>": "2 times </answer>",
    "<think>the <answer> tag</think><answer>B</answer>": "2 times <answer>",
    "<think><think>a</think><answer>B</answer>": "2 times <think>",
    "<answer>B</answer><think>a</think>": "tags in the wrong order",
    "<think><answer>B</answer></think>": "tags in the wrong order",
    "</think>a<think><answer>B</answer>": "tags in the wrong order",
    "<think>a</think></answer>B<answer>": "tags in the wrong order",
    "<think>a<answer></think>B</answer>": "tags in the wrong order",
    "<Think>a</Think><Answer>B</Answer>": "no <think>",
    "< think>a</ think>< answer>B</ answer>": "no <think>",
    "<think/><answer>B</answer>": "no <think>",
    "think: a\nanswer: B": "no <think>",
    "```<think>a</think><answer>B</answer>```": "text outside the blocks",
}
TAGS = ["<think>", "</think>", "<answer>", "</answer>"]
pieces = st.lists(st.sampled_from([*TAGS, "B", " ", "\n", "Final Answer:", "text", "<think", "answer>"]), max_size=12).map(
    "".join
)


def overall(function: str, response: str, truth: str = "B") -> float:
    with Grader(Reward(function=function)) as grader:
        return grader.grade([response], [truth])[0].overall


@pytest.mark.parametrize("response", GOOD)
def test_a_well_formed_right_response_scores_one(response: str) -> None:
    assert read_response(response).fault == ""
    assert overall("hfrrf", response) == overall("zero", response) == 1.0


@pytest.mark.parametrize("response", GOOD)
def test_a_well_formed_wrong_response_scores_nothing_or_zeros_half(response: str) -> None:
    assert overall("hfrrf", response, "A") == 0.0
    assert overall("zero", response, "A") == 0.5


@pytest.mark.parametrize(
    "thought", ["\u200b", "\u2060\ufeff \n", "\u3164", "\u2800\u00ad", "\u00a0\t", "\ufe0f", "\x00", "\u200e\u115f"]
)
def test_a_thought_that_shows_nothing_is_empty(thought: str) -> None:
    assert read_response(f"<think>{thought}</think><answer>B</answer>").fault == "empty thought"
    assert read_response(f"<think>a</think><answer>{thought}</answer>").fault == "empty answer"
    assert read_response(f"<think>{thought}.</think><answer>B{thought}</answer>").fault == ""


@pytest.mark.parametrize(("response", "fault"), FAULTY.items())
def test_a_faulty_response_scores_nothing_and_says_why(grader: Grader, response: str, fault: str) -> None:
    grade = grader.grade([response], ["B"])[0]
    assert (grade.overall, grade.format, grade.reason) == (0.0, 0.0, f"format: {fault}")


def test_the_reward_is_format_and_accuracy() -> None:
    assert [hfrrf(*pair) for pair in ((True, True), (True, False), (False, True), (False, False))] == [1, 0, 0, 0]
    assert [zero(*pair) for pair in ((True, True), (True, False), (False, True), (False, False))] == [1, 0.5, 0.5, 0]


def test_zero_pays_half_for_a_right_answer_block_in_a_faulty_response() -> None:
    assert overall("zero", "no thought <answer>B</answer>") == 0.5
    assert overall("zero", "<think>a</think> so B") == 0.0
    assert overall("zero", "B") == 0.0
    assert overall("zero", "<answer>A</answer><answer>B</answer>") == 0.0


def test_accuracy_is_told_apart_from_format(grader: Grader) -> None:
    grade = grader.grade(["Well. <answer>Final Answer: B</answer>"], ["B"])[0]
    assert (grade.overall, grade.format, grade.accuracy, grade.answer) == (0.0, 0.0, 1.0, "B")


def test_a_completion_cut_anywhere_scores_nothing(grader: Grader) -> None:
    whole = GOOD[1]
    cuts = [whole[:length] for length in range(len(whole))]
    assert not any(grade.overall for grade in grader.grade(cuts, ["B"] * len(cuts)))


@settings(deadline=None)
@given(pieces)
def test_no_text_without_exactly_one_pair_of_blocks_scores(grader: Grader, response: str) -> None:
    assume([response.count(tag) for tag in TAGS] != [1, 1, 1, 1])
    assert grader.grade([response], ["B"])[0].overall == 0.0


@settings(deadline=None)
@given(pieces)
def test_whatever_scores_has_the_one_form(grader: Grader, response: str) -> None:
    if grader.grade([response], ["B"])[0].overall:
        thought, _, answer = response.strip().removeprefix("<think>").removesuffix("</answer>").partition("<answer>")
        assert thought.rstrip().removesuffix("</think>").strip()
        assert answer.replace("Final Answer:", "").strip() == "B"


@settings(deadline=None)
@given(st.sampled_from(GOOD), st.text(min_size=1), st.integers(0, 2), st.sampled_from(["A", "B"]))
def test_text_outside_the_blocks_never_raises_a_score(response: str, text: str, place: int, truth: str) -> None:
    assume("<" not in text)
    thought, answer = response.split("</think>")
    added = [text + response, f"{thought}</think>{text}{answer}", response + text][place]
    for function in ("hfrrf", "zero"):
        assert overall(function, added, truth) <= overall(function, response, truth)
        assert not text.strip() or overall(function, added, truth) < 1.0


def test_the_real_form_of_the_released_model_scores(grader: Grader) -> None:
    response = (
        "<think>Okay, let me see. The figure shows triangle ABC with sides 3 and 4. Wait, the angle is right, so by Pythagoras "
        "the third side is 5. Let me check: 9 + 16 = 25. Yes.</think><answer> Final Answer:5 </answer>"
    )
    grade = grader.grade([response], ["5"])[0]
    assert (grade.overall, grade.format, grade.accuracy, grade.answer, grade.reason) == (1.0, 1.0, 1.0, "5", "right")


@pytest.mark.parametrize("truth", ["", " ", "Final Answer:"])
def test_an_empty_truth_is_never_right(grader: Grader, truth: str) -> None:
    assert grader.grade(["<think>a</think><answer>B</answer>"], [truth])[0].overall == 0.0


def test_an_unknown_function_is_named() -> None:
    with pytest.raises(BadInput, match="reward.function 'hfrf' is not hfrrf, zero or path/file.py:function"):
        Grader(Reward(function="hfrf"))


def test_lists_of_different_length_are_a_mistake(grader: Grader) -> None:
    with pytest.raises(ValueError, match="2 responses, 1 answers"):
        grader.grade(["a", "b"], ["a"])
