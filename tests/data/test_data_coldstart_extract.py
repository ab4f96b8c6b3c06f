"""Answers and thoughts in the shapes that real reasoners write them in."""

from __future__ import annotations

import pytest

from visionr1.data.coldstart.extract import closing_answer, final_answer, parts
from visionr1.data.coldstart.reply import Reply

ANSWERS = [
    ("Final Answer: 42", "42"),
    ("**Final Answer:** 42", "42"),
    ("**Final Answer: 42**", "42"),
    ("**Final Answer**: 42", "42"),
    ("**Final Answer**\n\\boxed{42}", "42"),
    ("**Final Answer:**\n\n\\[\n\\boxed{42}\n\\]", "42"),
    ("**Final Answer**\n\n$$\\boxed{\\frac{1}{2}}$$", "\\frac{1}{2}"),
    ("### Final Answer\n42", "42"),
    ("### Final Answer:\n\n**42**", "42"),
    ("## Answer\n\n\\[ x = 42 \\]", "x = 42"),
    ("> **Answer:** 42", "42"),
    ("The area follows.\n\n\\boxed{42}", "42"),
    ("Therefore\n\\[\n\\boxed{42}\n\\]", "42"),
    ("Therefore\n$$\\boxed{x^{2}+1}$$\nas claimed.", "x^{2}+1"),
    ("\\[\n42\n\\]", "42"),
    ("$$\n42\n$$", "42"),
    ("Final Answer: $42$", "$42$"),
    ("Final Answer: (B) 40", "(B) 40"),
    ("Final Answer: \\boxed{B}", "B"),
    ("\\boxed{\n42\n}", "42"),
    ("Final Answer: \\boxed{\n42\n}", "42"),
    ("<answer>42</answer>", "42"),
    ("<answer> Final Answer: 42 </answer>", "42"),
    ("I add both.\n<answer>\n\\boxed{42}\n</answer>\nDone.", "42"),
    ("Final Answer: 42<|im_end|>", "42"),
    ("Final Answer: 42</s>", "42"),
    ("Final Answer: 42<｜end▁of▁sentence｜>", "42"),
    ("Final Answer: 42 <|eot_id|> <|endoftext|>", "42"),
    ("最终答案：42", "42"),
    ("**答案：** 42。", "42"),
    ("因此答案是 42。", "42"),
    ("答え：42", "42"),
    ("정답: 42", "42"),
    ("Respuesta final: 42", "42"),
    ("**Réponse finale :** 42", "42"),
    ("Antwort: 42", "42"),
    ("Die Antwort lautet 42.", "42"),
    ("Ответ: 42", "42"),
    ("Final Answer: 42\n\nLet me double check. The final answer is consistent with the picture.", "42"),
    ("Final Answer: 41\nNo, I mean:\nFinal Answer: 42", "42"),
    ("So the final answer is 42.", "42"),
    ("The final answer is: **C**", "C"),
    ("Adding both, the answer is 42.", "42"),
    ("The answer is correct.\nThe answer is 42.", "42"),
    ("42", "42"),
    ("This was a nice problem.\nI enjoyed it.", None),
    ("", None),
    ("**Final Answer**", None),
]


@pytest.mark.parametrize(("conclusion", "answer"), ANSWERS)
def test_answers(conclusion: str, answer: str | None) -> None:
    assert final_answer(conclusion) == answer


@pytest.mark.parametrize(
    ("reply", "thought", "conclusion", "ends"),
    [
        (Reply("<think>\na\n</think>\n\nb", "", "stop"), "a", "\n\nb", 1),
        (Reply("a</think>b", "", "stop"), "a", "b", 1),
        (Reply("b", "a", "stop"), "a", "b", 1),
        (Reply("b<|im_end|>", "a<|im_end|>", "stop"), "a", "b", 1),
        (Reply("<think>a</think>b", "a", "stop"), "a", "b", 1),
        (Reply("<think>a</think>b", " a\n", "stop"), "a", "b", 1),
        (Reply("<think>a and more</think>b", "a", "stop"), "a and more", "b", 1),
        (Reply("<think>a</think>b", "a and more", "stop"), "a and more", "b", 1),
        (Reply("<think></think>b", "a", "stop"), "a", "b", 1),
        (Reply("<think>other</think>b", "a", "stop"), "a</think><think>other", "b", 2),
        (Reply("b", "", "stop"), "", "b", 0),
    ],
)
def test_thought_and_conclusion(reply: Reply, thought: str, conclusion: str, ends: int) -> None:
    read = parts(reply)
    assert (read.thought, read.conclusion, read.ends) == (thought, conclusion, ends)


@pytest.mark.parametrize(
    ("thought", "closing"),
    [
        ("It is 5. Wait, 3+5=8.", None),
        ("So \\boxed{9}.", "9"),
        ("First.\nThe final answer is 40.1 units.", "40.1 units"),
        ("So it is option (C).", "C"),
        ("所以答案是 8", "8"),
    ],
)
def test_what_a_chain_closes_with(thought: str, closing: str | None) -> None:
    assert closing_answer(thought) == closing
