from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionr1.data.coldstart.extract import boxed, closing_answer, final_answer
from visionr1.data.coldstart.filters import Rejection, decide, judge, response
from visionr1.data.coldstart.reply import Garbled, Reply, parse_completion
from visionr1.data.coldstart.signs import SPEAKS_OF_DESCRIPTION
from visionr1.data.coldstart.wording import speak_of_seeing
from visionr1.recipe.coldstart import Filters

ALL = Filters()


def same_text(pairs: list[tuple[str, str]]) -> list[bool]:
    return [" ".join(given.strip("$ ").lower().split()) == " ".join(truth.strip("$ ").lower().split()) for given, truth in pairs]


def outcome(text: str, truth: str = "8", reasoning: str = "", finish_reason: str = "stop", filters: Filters = ALL) -> str:
    judged = judge(Reply(text, reasoning, finish_reason), filters)
    if isinstance(judged, Rejection):
        return judged.rule
    (decided,) = decide([(judged, truth)], same_text, filters)
    return decided.rule if isinstance(decided, Rejection) else response(decided)


def think(thought: str, conclusion: str = "Final Answer: 8") -> str:
    return f"<think>\n{thought}\n</think>\n\n{conclusion}"


KEPT = "<think> 3+5=8. </think><answer> Final Answer:8 </answer>"

FILTER_TABLE = [
    # kept, in every shape that reasoners answer in
    (think("3+5=8."), KEPT),
    ("3+5=8.</think>Final Answer: 8", KEPT),
    (think("3+5=8.", "**Final Answer:** 8."), KEPT),
    (think("3+5=8.", "**Final Answer**\n\\boxed{8}"), KEPT),
    (think("3+5=8.", "The sum is \\boxed{8}."), KEPT),
    (think("3+5=8.", "<answer> Final Answer:8 </answer>"), KEPT),
    (think("3+5=8.", "<answer>8</answer>"), KEPT),
    (think("3+5=8.", "Adding both, the answer is 8."), KEPT),
    (think("3+5=8.", "Final Answer: 7\nNo, I mean:\nFinal Answer: 8"), KEPT),
    (think("3+5=8.", "8"), KEPT),
    (
        think("The problem says x is given. So x=8."),
        "<think> The problem says x is given. So x=8. </think><answer> Final Answer:8 </answer>",
    ),
    (
        think("The answer is given by 3+5. So 8."),
        "<think> The answer is given by 3+5. So 8. </think><answer> Final Answer:8 </answer>",
    ),
    (
        think("Among the given answer choices 8 fits."),
        "<think> Among the given answer choices 8 fits. </think><answer> Final Answer:8 </answer>",
    ),
    (
        think("The figure is not shown to scale. 8."),
        "<think> The figure is not shown to scale. 8. </think><answer> Final Answer:8 </answer>",
    ),
    (think("So we know the answer is 8."), "<think> So we know the answer is 8. </think><answer> Final Answer:8 </answer>"),
    (
        think("The radius is not given, yet 3+5=8."),
        "<think> The radius is not given, yet 3+5=8. </think><answer> Final Answer:8 </answer>",
    ),
    (
        think("Hence the answer is 8 cm, as hoped."),
        "<think> Hence the answer is 8 cm, as hoped. </think><answer> Final Answer:8 </answer>",
    ),
    # thoughts that never end, or end more than once
    ("<think> 3+5=8. Wait, let me check.", "no end of thought"),
    ("3+5=8. Final Answer: 8", "no end of thought"),
    (think("3+5=8. </think> Wait. <think> No."), "several ends of thought"),
    (think("3+5=8. </think>"), "several ends of thought"),
    (think("  "), "empty thought"),
    ("<think></think>Final Answer: 8", "empty thought"),
    # tags that would end or open a block inside the chain
    (think("So <answer>8</answer> it is."), "stray tags"),
    (think("First <think> again."), "stray tags"),
    (think("In <image> I see 3 and 5."), "stray tags"),
    (think("3 <|im_end|> 5"), "stray tags"),
    # the image was missed
    (think("The image isn't provided here, so I guess 8."), "image not seen"),
    (think("The original data isn't here. 8?"), "image not seen"),
    (think("I cannot see the image, but maybe 8."), "image not seen"),
    (think("Since I can’t see it, let's assume 8."), "image not seen"),
    (think("Without seeing the diagram, it is hard. 8."), "image not seen"),
    (think("There is no figure provided, so 8."), "image not seen"),
    (think("I don't have access to the image. 8."), "image not seen"),
    # refusals
    (think("Hmm.", "I'm sorry, but I can't help with that."), "refused"),
    (think("Hmm.", "I cannot answer without the image."), "refused"),
    ("As an AI, I have no eyes.", "refused"),
    # the answer that stood in the prompt is let slip
    (think("The given answer is 8, so it must be."), "answer was told"),
    (think("The provided answer says 8."), "answer was told"),
    (think("The answer is given as 8."), "answer was told"),
    (think("The user says the answer is 8."), "answer was told"),
    (think("I was told that the correct answer is 8."), "answer was told"),
    (think("Knowing the correct answer, 3+5=8."), "answer was told"),
    (think("According to the given answer, 8."), "answer was told"),
    (think("This matches the ground truth."), "answer was told"),
    # words about the description that no replacement fixes
    (think("As described, 3 and 5. 8."), "speaks of the description"),
    (think("Descriptions may err. 8."), "speaks of the description"),
    (think("My description notes 3. 8."), "speaks of the description"),
    (think("The height is not provided. 8."), "speaks of the description"),
    (think("The scale wasn't provided. 8."), "speaks of the description"),
    # the answer is missing, wrong, or not what the chain said
    (think("3+5=8.", ""), "no answer"),
    (think("3+5=8.", "This was a nice problem.\nI enjoyed it."), "no answer"),
    (think("3+5=8.", "Final Answer: 7"), "wrong answer"),
    (think("3+5=8.", "Final Answer: -8"), "wrong answer"),
    (think("Hence the answer is 7."), "contradicts itself"),
    (think("Hence the answer is 8.5."), "contradicts itself"),
    (think("Hence the answer is -8."), "contradicts itself"),
    (think("So \\boxed{9}."), "contradicts itself"),
]


@pytest.mark.parametrize(("text", "expected"), FILTER_TABLE)
def test_filter_table(text: str, expected: str) -> None:
    assert outcome(text) == expected


def test_the_table_is_long_enough() -> None:
    assert len(FILTER_TABLE) >= 40


@pytest.mark.parametrize(
    ("closing", "expected"),
    [
        ("So the answer is option A.", "contradicts itself"),
        ("So it is option (C).", "contradicts itself"),
        ("So the answer is A: 30.", "contradicts itself"),
        ("So the answer is option B.", "kept"),
        ("So the answer is (B) 40.", "kept"),
        ("So the answer is 40, that is B.", "kept"),
        ("So the answer is 40.", "kept"),
        ("So x = 40.", "kept"),
    ],
)
def test_closing_letters(closing: str, expected: str) -> None:
    result = outcome(think(f"Let us see. {closing}", "Final Answer: B"), truth="B")
    assert (result if result in ("contradicts itself",) else "kept") == expected


def test_a_separate_chain_of_thought() -> None:
    assert outcome("Final Answer: 8", reasoning="3+5=8.") == KEPT
    assert outcome("3+5=8 </think> Final Answer: 8", reasoning="3+5=8.") == "several ends of thought"
    assert outcome("", reasoning="3+5=8.") == "no answer"


@pytest.mark.parametrize("finish_reason", ["length", "max_tokens", "tool_calls", ""])
def test_replies_that_did_not_stop_are_dropped_whatever_they_hold(finish_reason: str) -> None:
    assert outcome(think("3+5=8."), finish_reason=finish_reason) == "truncated"


def test_a_reply_that_the_server_censored_is_a_refusal() -> None:
    assert outcome("", finish_reason="content_filter") == "refused"


def test_a_thought_that_was_sent_twice_is_taken_once() -> None:
    assert outcome(think("3+5=8."), reasoning="3+5=8.") == KEPT
    assert outcome(think(" 3+5=8. "), reasoning="3+5=8.\n") == KEPT
    assert outcome(think("3+5=8."), reasoning="3+5=8. And") == "<think> 3+5=8. And </think><answer> Final Answer:8 </answer>"
    assert outcome(think("It is seven."), reasoning="3+5=8.") == "several ends of thought"


def test_the_answer_block_takes_the_spelling_of_the_data() -> None:
    kept = "<think> It is sky blue. </think><answer> Final Answer:Sky blue </answer>"
    assert outcome(think("It is sky blue.", "Final Answer: SKY BLUE"), truth="Sky\n blue") == kept


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("The description says that AB = 3.", "The image shows that AB = 3."),
        ("the image description mentions a circle", "the image shows a circle"),
        ("The detailed description of the image states: 5", "The image shows: 5"),
        ("According to the description, AB = 3.", "According to the image, AB = 3."),
        ("From the given image description, x", "From the image, x"),
        ("Based on the description provided, x", "Based on the image, x"),
        ("as described in the image, x", "as shown in the image, x"),
        ("As stated in the description, x", "As shown in the image, x"),
        ("the lines mentioned in the description", "the lines shown in the image"),
        ("The description also mentions red.", "The image also shows red."),
        ("The image says 5 km.", "The image shows 5 km."),
        ("This diagram describes a cube.", "This diagram shows a cube."),
        ("The description says the image shows a cat.", "The image shows a cat."),
        ("The description mentioned that x", "The image shows that x"),
        ("The image's description tells us that x", "The image shows that x"),
        ("in the image described", "in the image described"),
        ("The problem states that PA and PB are tangents.", "The problem states that PA and PB are tangents."),
        ("Tangents touch the circle; the image shows it.", "Tangents touch the circle; the image shows it."),
        ("prescription and descriptions", "prescription and descriptions"),
    ],
)
def test_words_about_the_description_become_words_about_the_image(before: str, after: str) -> None:
    assert speak_of_seeing(before) == after


WORDS = [
    "The",
    "the",
    "image",
    "figure",
    "description",
    "says",
    "shows",
    "that",
    "mentions",
    "as",
    "described",
    "in",
    "AB",
    ",",
    "tangents",
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=25))
def test_replacing_glues_no_words_together_and_leaves_no_description_unnoticed(words: list[str]) -> None:
    replaced = speak_of_seeing(" ".join(words))
    assert set(re.findall(r"\w+", replaced.lower())) <= {word.lower().strip(".") for word in words} | {
        "the",
        "image",
        "shows",
        "shown",
        "as",
        "in",
    }
    assert SPEAKS_OF_DESCRIPTION.search(replaced.lower()) or "description" not in replaced.lower()


def test_answers_are_read_from_what_follows_the_thought() -> None:
    assert final_answer("Final Answer: $\\frac{1}{2}$") == "$\\frac{1}{2}$"
    assert final_answer("Therefore \\boxed{\\frac{1}{2}}.") == "\\frac{1}{2}"
    assert final_answer("Final Answer: (-5, 2)") == "(-5, 2)"
    assert final_answer("final answer is: **C**") == "C"
    assert closing_answer("It is 5. Wait, 3+5=8.") is None
    assert closing_answer("First.\nThe final answer is 40.1 units.") == "40.1 units"
    assert boxed("\\boxed{a{b}c} and \\boxed{open") is None
    assert boxed("no box") is None


def test_completions_are_read_defensively() -> None:
    def body(message: str, rest: str = '"finish_reason": "stop"') -> str:
        return f'{{"choices": [{{"message": {message}, {rest}}}]}}'

    assert parse_completion(body('{"content": "x"}')) == Reply("x", "", "stop")
    assert parse_completion(body('{"content": null, "reasoning_content": "r"}')) == Reply("", "r", "stop")
    assert parse_completion(body('{"content": "x", "reasoning": "r"}', '"finish_reason": null')) == Reply("x", "r", "")
    for broken in (
        "",
        "<html>502</html>",
        "[]",
        "{}",
        '{"choices": []}',
        '{"choices": null}',
        body("null"),
        body('"text"'),
        body('{"content": ["x"]}'),
        body('{"content": "  "}'),
        body('{"content": "a\\u0000b"}'),
        body('{"content": "\\ud800"}'),
        body('{"content": "x"}', '"finish_reason": 3'),
        "[" * 100_000,
    ):
        with pytest.raises(Garbled):
            parse_completion(broken)
