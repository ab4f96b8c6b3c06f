"""The hard formatting result reward function of section 3.4, and the 1:1 reward of Vision-R1-Zero.

HFRRF pays 1 only if the format and the answer are right, else 0. A completion cut at the stage's
length limit has no `</answer>`, so its reward is 0. This is how PTST suppresses long thinking.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from visionr1.reward.glyphs import is_blank
from visionr1.reward.lead_in import without_lead_in

_TAGS: Final = ("<think>", "</think>", "<answer>", "</answer>")


@dataclass(frozen=True)
class Grade:
    """The reward of one response: `overall` is trained on, `format` and `accuracy` are its parts.

    `answer` is the answer as it was read (None: there was none; at most 500 characters), `reason` says in words why,
    `rule` which rule of docs/reward.md has compared the answer ("": none, or a user's function).
    """

    overall: float
    format: float
    accuracy: float
    answer: str | None
    reason: str
    rule: str = ""


@dataclass(frozen=True)
class Reading:
    """What a response says: `fault` is what is wrong with its format, "" if nothing is."""

    answer: str | None
    fault: str


def read_response(response: str) -> Reading:
    """Read `<think>thought</think><answer>Final Answer:X</answer>` (section 3.1).

    The format is right only if each of the four tags is there exactly once, in this order, with nothing
    but whitespace before, between and after the two blocks, and neither block is empty.

    The answer is also read from a faulty response, if that has exactly one answer block: accuracy
    can then be watched apart from format, and Zero's reward is paid in halves. Text outside an
    answer block is never taken for an answer.
    """
    answer = _answer_block(response)
    return Reading(None if is_blank(answer or "") else answer, _format_fault(response.strip(), answer))


def _answer_block(response: str) -> str | None:
    if response.count("<answer>") != 1 or response.count("</answer>") != 1:
        return None
    _, _, after = response.partition("<answer>")
    inside, closed, _ = after.partition("</answer>")
    return without_lead_in(inside) if closed else None


def _format_fault(text: str, answer: str | None) -> str:
    for tag in _TAGS:
        count = text.count(tag)
        if count != 1:
            return f"no {tag}" if count == 0 else f"{count} times {tag}"
    before, _, rest = text.partition("<think>")
    thought, _, rest = rest.partition("</think>")
    between, opened, rest = rest.partition("<answer>")
    _, closed, after = rest.partition("</answer>")
    if not opened or not closed:
        return "tags in the wrong order"
    if before or between.strip() or after:
        return "text outside the blocks"
    if is_blank(thought):
        return "empty thought"
    return "empty answer" if is_blank(answer or "") else ""


def hfrrf(format_ok: bool, answer_right: bool) -> float:
    """Section 3.4: 1 if both are right, else 0."""
    return float(format_ok and answer_right)


def zero(format_ok: bool, answer_right: bool) -> float:
    """Appendix A, Vision-R1-Zero: format and result one to one."""
    return 0.5 * format_ok + 0.5 * answer_right


BUILT_IN: Final[dict[str, Callable[[bool, bool], float]]] = {"hfrrf": hfrrf, "zero": zero}
