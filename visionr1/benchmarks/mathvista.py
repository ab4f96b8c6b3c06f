"""MathVista (arXiv 2310.02255): 1,000 problems of `testmini`. Source of the rule: lupantech/MathVista, commit 53d5258."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from visionr1.benchmarks.blocks import boxed
from visionr1.benchmarks.figures import means
from visionr1.benchmarks.problem import Benchmark, Column, Draft, Problem, Right, Rule, Same
from visionr1.data.options import LETTERS

_QUOTED: Final = re.compile(r'The answer is "(.*)"\.')
_NUMBER: Final = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")
_LETTER: Final = re.compile(r"\(([a-zA-Z])\)")


def read(problem: Problem, reply: str) -> str:
    """The short cuts of `extract_answer.py`: a choice, a number, or `The answer is "..."`; else what is boxed, else the whole.

    Where no short cut finds something, the authors ask a language model. A judge does that here, if there is one.
    """
    found = short_cut(problem, reply)
    return found if found is not None else read_block(problem, [reply, *boxed(reply)][-1])


def read_block(problem: Problem, block: str) -> str:
    """An answer block; where a number is asked for and the block has just one, that number: `12 cm`, `$1,200$`."""
    if problem.facts["answer_type"] not in ("integer", "float") or _float(block) is not None:
        return block
    numbers = _NUMBER.findall(block)
    return numbers[0].replace(",", "") if len(numbers) == 1 else block


def short_cut(problem: Problem, reply: str) -> str | None:
    """As `read`; None if no short cut finds an answer."""
    kind = problem.facts["answer_type"]
    if not reply:
        return ""
    if problem.facts["question_type"] == "multi_choice" and reply in (problem.facts["choices"] or ()):
        return reply
    if kind == "integer" and (whole := _int(reply)) is not None:
        return str(whole)
    if kind == "float" and (number := _float(reply)) is not None:
        return str(number)
    quoted = _QUOTED.search(reply)
    return quoted[1] if quoted else None


def right(problem: Problem, answer: str, same: Same) -> bool:
    """As `calculate_score.py`: what the answer stands for must be the true answer, letter by letter."""
    return prediction(problem, answer) == str(problem.facts["answer"])


def prediction(problem: Problem, answer: str) -> str | None:
    """What an answer stands for: a choice's text, an integer, or a number with the problem's precision.

    A letter in brackets anywhere, or a letter alone, is a choice. Any other text is the choice with the fewest edits to it.
    """
    facts = problem.facts
    if facts["question_type"] == "multi_choice":
        return _choice(answer, facts["choices"])
    if facts["answer_type"] == "integer":
        number = _float(answer)
        return str(int(number)) if number is not None and math.isfinite(number) else None
    if facts["answer_type"] == "float":
        number = _float(answer)
        places = facts["precision"]
        return None if number is None or places is None else str(round(number, int(places)))
    return answer


def _choice(answer: str, choices: Sequence[str]) -> str:
    bracketed = _LETTER.search(answer)
    letter = bracketed[1].upper() if bracketed else answer.strip()
    place = ord(letter) - ord("A") if len(letter) == 1 else -1
    if 0 <= place < len(choices):
        return choices[place]
    return min(choices, key=lambda choice: edits(letter, choice))


def edits(one: str, other: str) -> int:
    """Levenshtein's distance: the fewest insertions, deletions and changes of a letter that make one text of the other."""
    row = list(range(len(other) + 1))
    for number, letter in enumerate(one, 1):
        corner, row[0] = row[0], number
        for place, theirs in enumerate(other, 1):
            corner, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, corner + (letter != theirs))
    return row[-1]


def _int(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


RULE: Final = Rule("nearest-choice-and-precision", 1, read, read_block, right, short_cut)
_PAPER: Final = {
    "GEO": ("skills", "geometry reasoning"),
    "ALG": ("skills", "algebraic reasoning"),
    "ARI": ("skills", "arithmetic reasoning"),
    "GPS": ("task", "geometry problem solving"),
    "MWP": ("task", "math word problem"),
}
"""The parts of the set that papers report."""


def draft(cells: Mapping[str, Any], place: int) -> Draft:
    """A problem of a row."""
    choices = tuple(cells["choices"] or ())
    unit = f" (unit: {cells['unit']})" if cells["unit"] else ""
    listed = "\n".join(f"({letter}) {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
    if cells["question_type"] == "multi_choice" and not choices:
        raise ValueError("a multiple choice without choices")
    if cells["precision"] is not None and not math.isfinite(cells["precision"]):
        raise ValueError("the precision is no number")
    return Draft(str(cells["pid"]), cells["question"] + unit, listed, str(cells["answer"]), choices, cells["image"])


def figures(right: Right) -> dict[str, float]:
    """Accuracy on the parts that papers report."""
    groups: dict[str, list[bool]] = {name: [] for name in _PAPER}
    for problem, is_right in right:
        about = problem.facts["metadata"]
        for name, (key, value) in _PAPER.items():
            found = about.get(key) if isinstance(about, dict) else None
            if value == found or (isinstance(found, list) and value in found):
                groups[name].append(is_right)
    return means(groups)


MATHVISTA: Final = Benchmark(
    name="mathvista",
    title="MathVista",
    sources=("hf://AI4Math/MathVista@testmini",),
    sizes={"testmini": 1000},
    columns={
        "pid": Column(("pid",), "any"),
        "question": Column(("question",), "text"),
        "image": Column(("decoded_image", "image"), "picture"),
        "choices": Column(("choices",), "texts", needed=False),
        "unit": Column(("unit",), "text", needed=False),
        "precision": Column(("precision",), "number", needed=False),
        "answer": Column(("answer",), "text"),
        "question_type": Column(("question_type",), "text"),
        "answer_type": Column(("answer_type",), "text"),
        "metadata": Column(("metadata",), "any", needed=False),
    },
    draft=draft,
    rule=RULE,
    judged="reading",
    figures=figures,
)
