"""Which of the reasoner's replies become training data, and why the others do not.

Section 3.3.1: keep replies "aligned with ground truth", drop "logical inconsistent samples", "replace some words". The
paper says no more; the rules below are ours. All is decided from the reply and the true answer alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from visionr1.data.coldstart import signs
from visionr1.data.coldstart.extract import closing_answer, final_answer, parts
from visionr1.data.coldstart.reply import Reply
from visionr1.data.coldstart.wording import speak_of_seeing
from visionr1.recipe.coldstart import Filters

Rule = Literal[
    "bad row",
    "in an evaluation set",
    "request failed",
    "too long for the teacher",
    "no description",
    "no regions",
    "description tells the answer",
    "truncated",
    "refused",
    "no end of thought",
    "several ends of thought",
    "empty thought",
    "stray tags",
    "image not seen",
    "answer was told",
    "speaks of the description",
    "wrong language",
    "too short",
    "too long",
    "repeats itself",
    "no answer",
    "no majority",
    "wrong answer",
    "contradicts itself",
    "near duplicate",
]
RULES: Final[tuple[Rule, ...]] = get_args(Rule)
SameAnswer = Callable[[list[tuple[str, str]]], list[bool]]
"""For pairs of (answer, true answer): are they the same?"""

_NGRAM: Final = 10
_FEWEST_WORDS: Final = 50
"""Texts with fewer words are too short to tell loops and languages by counting."""
_LOOKED_AT: Final = 200
"""Words from the start and from the end of a chain that show its language; models change it on the way."""


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


@dataclass(frozen=True)
class Kept:
    """A chain of thought that passed all rules. A right answer is the true one, in the data's own spelling."""

    thought: str
    answer: str
    right: bool


_LETTER: Final = re.compile(r"\(?([A-H])(?:\)|\b)(?![’'])")


def judge(reply: Reply, filters: Filters) -> Candidate | Rejection:
    """Applies every rule that needs no comparison of answers, in the order of `Rule`."""
    if reply.finish_reason == "content_filter":
        return Rejection("refused", f"finish reason 'content_filter' {reply.text[-100:]}")
    if reply.finish_reason != "stop":
        return Rejection("truncated", f"finish reason {reply.finish_reason!r} ... {reply.text[-100:] or reply.reasoning[-100:]}")
    read = parts(reply)
    if "refused" not in filters.off and (words := refusal(read.conclusion)):
        return Rejection("refused", words)
    if not read.ends:
        return Rejection("no end of thought", f"... {read.conclusion[-100:]}")
    if read.ends > 1:
        return Rejection("several ends of thought", f"{read.ends} times </think>")
    if not read.thought:
        return Rejection("empty thought", reply.text[:100])
    thought = speak_of_seeing(read.thought)
    rejection = _bad_signs(read.thought, thought, filters) or _bad_shape(thought, filters)
    if rejection is not None:
        return rejection
    answer = final_answer(read.conclusion)
    if answer is None:
        return Rejection("no answer", read.conclusion.strip()[-100:])
    return Candidate(thought, answer, None if "contradicts itself" in filters.off else closing_answer(thought))


def refusal(text: str) -> str | None:
    """The words by which a teacher refuses, if it does."""
    found = signs.REFUSED.search(text.lower())
    return signs.around(text, found) if found else None


def tells_answer(description: str, truth: str) -> str | None:
    """The words by which a description gives the answer away, if it does."""
    for line in description.splitlines():
        if re.search(r"\banswer\b", line, re.IGNORECASE) and _names(line, truth):
            return " ".join(line.split())[:160]
    return None


def _bad_signs(before: str, thought: str, filters: Filters) -> Rejection | None:
    """The thought as it came, and after the replacement of words."""
    small = before.lower()
    rules: tuple[tuple[Rule, re.Pattern[str], str], ...] = (
        ("stray tags", signs.STRAY_TAGS, small),
        ("image not seen", signs.IMAGE_NOT_SEEN, small),
        ("answer was told", signs.ANSWER_WAS_TOLD, small),
        ("speaks of the description", signs.SPEAKS_OF_DESCRIPTION, small if thought == before else thought.lower()),
    )
    for rule, pattern, text in rules:
        if rule not in filters.off and (found := pattern.search(text)):
            return Rejection(rule, signs.around(before if text is small else thought, found))
    return None


def _bad_shape(thought: str, filters: Filters) -> Rejection | None:
    words = thought.split()
    if "wrong language" not in filters.off and (found := _not_english(thought, words)):
        return Rejection("wrong language", found)
    if filters.min_words is not None and len(words) < filters.min_words:
        return Rejection("too short", f"{len(words)} words, under {filters.min_words}")
    if filters.max_words is not None and len(words) > filters.max_words:
        return Rejection("too long", f"{len(words)} words, over {filters.max_words}")
    share = repetition(words)
    if "repeats itself" not in filters.off and share > filters.most_repeated:
        return Rejection("repeats itself", f"{share:.0%} of its runs of {_NGRAM} words come again ... {' '.join(words[-12:])}")
    return None


def repetition(words: Sequence[str]) -> float:
    """The share of runs of _NGRAM words that come again; 0 for a short text."""
    runs = len(words) - _NGRAM + 1
    if len(words) < _FEWEST_WORDS:
        return 0.0
    return 1 - len(set(zip(*(words[place:] for place in range(_NGRAM)), strict=False))) / runs


def _not_english(thought: str, words: Sequence[str]) -> str | None:
    """What shows that a chain is not in English throughout; None if nothing does."""
    found = None if thought.isascii() else signs.OTHER_SCRIPT.search(thought)
    if found:
        foreign = len(signs.OTHER_SCRIPT.findall(thought))
        if foreign >= 5 and foreign > len(thought) / 200:
            return signs.around(thought, found)
    if len(words) < _FEWEST_WORDS:
        return None
    plain = [word.lower() for word in (*words[:_LOOKED_AT], *words[-_LOOKED_AT:]) if word.isalpha()]
    if len(plain) >= _FEWEST_WORDS and sum(map(signs.COMMON_ENGLISH.__contains__, plain)) < len(plain) * 0.08:
        return " ".join(words[:20])
    return None


def decide(candidates: Sequence[tuple[Candidate, str]], same_answer: SameAnswer, filters: Filters) -> list[Kept | Rejection]:
    """Compares each candidate's answer, and the one that its chain closes with, to the true answer beside it."""
    right = same_answer([(candidate.answer, truth) for candidate, truth in candidates])
    closings = [candidate.closing for candidate, _ in candidates]
    doubtful = [place for place, (_, truth) in enumerate(candidates) if right[place] and _may_differ(closings[place], truth)]
    agree = dict(zip(doubtful, same_answer([(closings[place] or "", candidates[place][1]) for place in doubtful]), strict=True))
    decided: list[Kept | Rejection] = []
    for place, (candidate, truth) in enumerate(candidates):
        if not right[place] and "wrong answer" not in filters.off:
            decided.append(Rejection("wrong answer", f"{candidate.answer!r}, the true answer is {truth!r}"))
        elif not agree.get(place, True):
            decided.append(
                Rejection("contradicts itself", f"the chain ends with {candidate.closing!r}, the answer is {candidate.answer!r}")
            )
        else:
            decided.append(Kept(candidate.thought, truth if right[place] else candidate.answer, right[place]))
    return decided


def _may_differ(closing: str | None, truth: str) -> bool:
    """Whether a closing answer needs the grader: not if it names the true answer, nor a value where a letter is asked for."""
    if closing is None or _names(closing, truth):
        return False
    if _LETTER.fullmatch(truth.strip()):
        return _LETTER.match(closing) is not None
    return True


def _names(text: str, truth: str) -> bool:
    return re.search(rf"(?<![\w.-]){re.escape(truth.strip())}(?!\w|\.\d)", text) is not None


def response(kept: Kept) -> str:
    """The assistant turn as Vision-R1 writes it."""
    return f"<think> {kept.thought} </think><answer> Final Answer:{' '.join(kept.answer.split())} </answer>"
