"""MathVerse (arXiv 2403.14624): 788 problems, each in five versions with less and less text and more in the picture.

Its authors let a language model read the answer and decide; source: ZrrSkywalker/MathVerse, commit 937b090. Here a judge does
both, with our prompts. Without one our strict rule decides, and the score is labelled so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from visionr1.benchmarks.blocks import boxed
from visionr1.benchmarks.figures import means
from visionr1.benchmarks.problem import Benchmark, Column, Draft, Problem, Right, Rule, Same


def read(problem: Problem, reply: str) -> str:
    """What is boxed, else the whole reply."""
    return [reply, *boxed(reply)][-1]


def right(problem: Problem, answer: str, same: Same) -> bool:
    """Whether our strict rule takes the answer for the true one."""
    return same(answer, problem.row.answer)


RULE: Final = Rule("strict-without-a-judge", 1, read, lambda _, block: block, right)


def draft(cells: Mapping[str, Any], place: int) -> Draft:
    """A problem of a row; a version without text asks for the question in the picture."""
    question = cells["question"] or "The question is in the picture."
    name = f"{cells['problem_index']}/{cells['problem_version']}"
    return Draft(name, question, "", cells["answer"], (), cells["image"])


def figures(right: Right) -> dict[str, float]:
    """Accuracy on each version."""
    groups: dict[str, list[bool]] = {}
    for problem, is_right in right:
        groups.setdefault(problem.facts["problem_version"], []).append(is_right)
    return means(groups)


MATHVERSE: Final = Benchmark(
    name="mathverse",
    title="MathVerse",
    sources=("hf://AI4Math/MathVerse@testmini/testmini",),
    sizes={"testmini": 3940},
    columns={
        "problem_index": Column(("problem_index",), "any"),
        "problem_version": Column(("problem_version",), "text"),
        "question": Column(("question",), "text"),
        "image": Column(("image",), "picture"),
        "answer": Column(("answer",), "text"),
        "question_for_eval": Column(("question_for_eval",), "text", needed=False),
    },
    draft=draft,
    rule=RULE,
    judged="scoring",
    figures=figures,
)
