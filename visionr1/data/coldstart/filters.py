"""Which of the reasoner's replies become training data, and why the others do not.

Section 3.3.1: keep replies "aligned with ground truth", drop "logical inconsistent samples", "replace some words". The
paper says no more; the rules below are ours. All is decided from the reply and the true answer alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from visionr1.data.coldstart.reply import Reply
from visionr1.data.coldstart.signs import ANSWER_WAS_TOLD, IMAGE_NOT_SEEN, REFUSED, SPEAKS_OF_DESCRIPTION, STRAY_TAGS, around
from visionr1.data.coldstart.wording import speak_of_seeing

Rule = Literal[
    "bad row",
    "request failed",
    "too long for the teacher",
    "no description",
    "truncated",
    "refused",
    "no end of thought",
    "several ends of thought",
    "empty thought",
    "stray tags",
    "image not seen",
    "answer was told",
    "speaks of the description",
    "no answer",
    "wrong answer",
    "contradicts itself",
]
SameAnswer = Callable[[list[tuple[str, str]]], list[bool]]
"""For pairs of (answer, true answer): are they the same?"""


@dataclass(frozen=True)
class Rejection:
    """Why a problem gives no sample; `excerpt` is what gave it away."""

    rule: Rule
    excerpt: str


@dataclass(frozen=True)
class Candidate:
    """A reply that may be kept if its answers are right; `closing` is the answer that the chain's last sentence names."""

    thought: str
    answer: str
    closing: str | None


_FINAL: Final = re.compile(r"final answer[\s*_:]*(?:is\b[\s*:]*)?(?P<answer>\S.*)", re.IGNORECASE)
_ANSWER_IS: Final = re.compile(
    r"\banswer(?: (?:is|must be|should be|would be)\b|:)[\s*:]*(?:option |choice |therefore |thus )?(?P<answer>\S.*)",
    re.IGNORECASE,
)
_OPTION: Final = re.compile(r"\b(?:option|choice)\s+\(?(?P<answer>[A-H])\b")
_SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s+|\n+")
_LETTER: Final = re.compile(r"\(?([A-H])(?:\)|\b)(?![’'])")
LONGEST_BARE_ANSWER: Final = 80


def judge(reply: Reply) -> Candidate | Rejection:
    """Applies every rule that needs no comparison of answers, in the order of `Rule`."""
    if reply.finish_reason == "content_filter":
        return Rejection("refused", f"finish reason 'content_filter' {reply.text[-100:]}")
    if reply.finish_reason != "stop":
        return Rejection("truncated", f"finish reason {reply.finish_reason!r} ... {reply.text[-100:] or reply.reasoning[-100:]}")
    whole = _whole(reply)
    thought, end, conclusion = whole.rpartition("</think>")
    if refused := REFUSED.search(conclusion):
        return Rejection("refused", around(conclusion, refused))
    if not end:
        return Rejection("no end of thought", f"... {whole[-100:]}")
    if "</think>" in thought:
        return Rejection("several ends of thought", f"{whole.count(end)} times {end}")
    thought = thought.strip().removeprefix("<think>").strip()
    if not thought:
        return Rejection("empty thought", whole[:100])
    return _judge_thought(thought, conclusion)


def _whole(reply: Reply) -> str:
    """Thought and conclusion as one text; a thought that was sent in its own field and in the text is taken once."""
    if not reply.reasoning.strip():
        return reply.text
    inline, end, conclusion = reply.text.partition("</think>")
    opened = inline.lstrip().startswith("<think>")
    once, again = (" ".join(text.replace("<think>", "").split()) for text in (reply.reasoning, inline))
    if end and (once == again or (opened and (once in again or again in once))):
        return f"<think>{max(once, again, key=len) if once != again else reply.reasoning}</think>{conclusion}"
    return f"<think>{reply.reasoning}</think>{reply.text}"


def _judge_thought(thought: str, conclusion: str) -> Candidate | Rejection:
    rules: tuple[tuple[Rule, re.Pattern[str]], ...] = (
        ("stray tags", STRAY_TAGS),
        ("image not seen", IMAGE_NOT_SEEN),
        ("answer was told", ANSWER_WAS_TOLD),
    )
    for rule, pattern in rules:
        if found := pattern.search(thought):
            return Rejection(rule, around(thought, found))
    thought = speak_of_seeing(thought)
    if found := SPEAKS_OF_DESCRIPTION.search(thought):
        return Rejection("speaks of the description", around(thought, found))
    answer = final_answer(conclusion)
    if answer is None:
        return Rejection("no answer", conclusion.strip()[-100:])
    return Candidate(thought, answer, closing_answer(thought))


def final_answer(conclusion: str) -> str | None:
    """The answer in the text after the thought: `Final Answer:`, an answer block, a box, "the answer is", or all of it."""
    text = conclusion.replace("<answer>", "\n").replace("</answer>", "\n").strip()
    found = [*_FINAL.finditer(text)]
    if found:
        return _clean(found[-1]["answer"])
    if boxed(text) is not None:
        return _clean(text)
    found = [*_ANSWER_IS.finditer(text)]
    if found:
        return _clean(found[-1]["answer"])
    return _clean(text) if len(text) <= LONGEST_BARE_ANSWER and "\n" not in text else None


def closing_answer(thought: str) -> str | None:
    """The answer that the last sentence of a chain names, if it names one."""
    last = [sentence for sentence in _SENTENCE_END.split(thought.strip()) if sentence.strip()][-1]
    if boxed(last) is not None:
        return _clean(last)
    for pattern in (_FINAL, _ANSWER_IS, _OPTION):
        if found := [*pattern.finditer(last)]:
            return _clean(found[-1]["answer"])
    return None


def boxed(text: str) -> str | None:
    r"""What the last `\boxed{...}` holds, its own braces respected."""
    start = text.rfind("\\boxed{")
    depth = 0
    for place in range(start + 6, len(text)) if start >= 0 else ():
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[start + 7 : place]
    return None


def _clean(text: str) -> str | None:
    """An answer without box, emphasis and full stop; None if nothing is left."""
    inside = boxed(text)
    answer = (text if inside is None else inside).replace("**", "").strip(" \t\n`*_")
    return answer.removesuffix(".").strip() or None


def decide(candidates: Sequence[tuple[Candidate, str]], same_answer: SameAnswer) -> list[Candidate | Rejection]:
    """Compares each candidate's answer, and the one that its chain closes with, to the true answer beside it."""
    right = same_answer([(candidate.answer, truth) for candidate, truth in candidates])
    closings = [candidate.closing for candidate, _ in candidates]
    doubtful = [place for place, (_, truth) in enumerate(candidates) if _may_differ(closings[place], truth)]
    agree = dict(zip(doubtful, same_answer([(closings[place] or "", candidates[place][1]) for place in doubtful]), strict=True))
    decided: list[Candidate | Rejection] = []
    for place, (candidate, truth) in enumerate(candidates):
        if not right[place]:
            decided.append(Rejection("wrong answer", f"{candidate.answer!r}, the true answer is {truth!r}"))
        elif not agree.get(place, True):
            decided.append(
                Rejection("contradicts itself", f"the chain ends with {candidate.closing!r}, the answer is {candidate.answer!r}")
            )
        else:
            decided.append(candidate)
    return decided


def _may_differ(closing: str | None, truth: str) -> bool:
    """Whether a closing answer needs the grader: not if it names the true answer, nor a value where a letter is asked for."""
    if closing is None or re.search(rf"(?<![\w.-]){re.escape(truth.strip())}(?!\w|\.\d)", closing):
        return False
    if _LETTER.fullmatch(truth.strip()):
        return _LETTER.match(closing) is not None
    return True


def response(candidate: Candidate, truth: str) -> str:
    """The assistant turn as Vision-R1 writes it; the answer is the true one, in the data's own spelling."""
    return f"<think> {candidate.thought} </think><answer> Final Answer:{' '.join(truth.split())} </answer>"
