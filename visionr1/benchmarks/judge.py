"""What a judge is asked, and what its replies mean. The prompts are files in `prompts/`."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from visionr1.benchmarks.blocks import after_thought
from visionr1.benchmarks.problem import Problem
from visionr1.benchmarks.read import filled, prompt_template

NAMES: Final = ("judge_read", "judge_score")
_LONGEST: Final = 8000
"""Characters of a reply that a judge gets, its last ones."""
_DIGIT: Final = re.compile(r"(?<![\d.])[01](?![\d.]*\d)")


def prompts_id() -> str:
    """A hash of both prompts."""
    return hashlib.sha256("\0".join(map(prompt_template, NAMES)).encode()).hexdigest()[:12]


def reading_prompt(problem: Problem, reply: str) -> str:
    """Asks for the answer in a reply."""
    return filled("judge_read", question=_question(problem), reply=after_thought(reply)[-_LONGEST:].strip())


def scoring_prompt(problem: Problem, answer: str) -> str:
    """Asks whether an answer is the true one."""
    return filled("judge_score", question=_question(problem), truth=problem.row.answer, answer=answer[-_LONGEST:])


def answer_in(reply: str) -> str | None:
    """The answer that a judge has read, "" for `none`; None for an empty reply."""
    text = after_thought(reply).strip()
    return ("" if text.lower().rstrip(".") == "none" else text) if text else None


def verdict_in(reply: str) -> bool | None:
    """Whether a judge says that two answers agree; None if it says neither, or both."""
    digits = set(_DIGIT.findall(after_thought(reply)))
    return digits == {"1"} if len(digits) == 1 else None


def _question(problem: Problem) -> str:
    """The question as the set gives it to judges."""
    return str(problem.facts.get("question_for_eval") or problem.question)
