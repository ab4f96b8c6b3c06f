"""What gives a bad chain of thought away, as patterns. All are searched for in a text in small letters."""

from __future__ import annotations

import re
from typing import Final

PICTURE: Final = r"(?:image|picture|figure|diagram|photo|graph|chart)"
_CANNOT: Final = r"(?:cannot|can['’]t|can not|couldn['’]t|unable to|not able to)"
_ANSWER: Final = r"(?:final |correct |right |true )?answer"
_NOT_CHOICES: Final = r"\b(?! (?:choice|option))"


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(rf"(?:{pattern})" for pattern in patterns))


REFUSED: Final = _any(
    r"\bi(?:['’]m| am) (?:sorry|unable|not able)\b",
    r"\bas an ai\b",
    rf"\bi (?:{_CANNOT}|won['’]t) (?:assist|help|answer|comply|provide|solve|determine|fulfil|process|view|see|describe)\b",
    r"我(?:无法|不能)(?:回答|协助|提供|查看|处理)|很?抱歉",
)

STRAY_TAGS: Final = _any(r"</?(?:think|answer|image)>", r"<\|[a-z_]+\|>", r"<｜[^｜>]+｜>")

IMAGE_NOT_SEEN: Final = _any(
    rf"\b(?:{PICTURE}|(?:original|visual|image) data) (?:is|was|are|were)(?:n['’]t| not) (?:actually )?"
    r"(?:provided|here|given|available|attached|included|visible|shown|present)\b(?! to scale)",
    rf"\b{_CANNOT} (?:actually )?(?:see|view|access) (?:it|(?:the|this|that|any) {PICTURE})\b",
    rf"\bwithout (?:seeing|being able to see|access to|having) (?:the|any|an) (?:actual )?{PICTURE}\b",
    rf"\b(?:there(?:['’]s| is) no|no) {PICTURE} (?:provided|given|here|available|attached)\b",
    rf"\bdon['’]t have (?:access to )?(?:the|any|an) (?:actual )?{PICTURE}\b",
)

ANSWER_WAS_TOLD: Final = _any(
    r"\b(?:the|this) (?:given|provided|supplied|stated|reference|standard|expected|known) "
    rf"(?:final |correct )?answer{_NOT_CHOICES}",
    r"\banswer (?:is|was) (?:already )?(?:given|provided|known|told|stated)\b(?! by)",
    rf"\b(?:told|given|says|said) (?:that )?the {_ANSWER} (?:is|was)\b",
    r"\bknow(?:ing)? (?:that )?the (?:correct|right|true) answer\b",
    r"\b(?:user|problem|question|prompt|hint|instructions?) (?:states?|stated|mentions?|mentioned|gives?|gave|provided|told me) "
    rf"(?:me )?(?:that )?the {_ANSWER} (?:is|was|as)\b",
    rf"\baccording to the (?:given |provided |correct )?answer{_NOT_CHOICES}",
    r"\bground[- ]truth\b",
)

SPEAKS_OF_DESCRIPTION: Final = _any(
    r"\bdescriptions?\b",
    r"\bas described\b",
    r"\b(?:not|never)\s+(?:been\s+)?provided\b",
    r"\b(?:is|was|are|were|has|have)n['’]t\s+(?:been\s+)?provided\b",
)
"""Looked for after the replacement of words."""

REGIONS: Final = _any(
    r"\b(?:left|right|top|bottom|upper|lower|middle|cent(?:er|re)|corner|edge|above|below|beneath|beside|between|inside|outside)\b",
    r"\b(?:foreground|background|row|column|x-axis|y-axis|horizontal|vertical)\b",
    r"[\[(]\s*\d+(?:\.\d+)?\s*,\s*\d+",
)
"""Words and coordinates that say where something is."""

COMMON_ENGLISH: Final = frozenset(
    {
        "the",
        "of",
        "is",
        "and",
        "to",
        "in",
        "so",
        "that",
        "we",
        "it",
        "this",
        "be",
        "as",
        "for",
        "are",
        "on",
        "with",
        "have",
        "let",
        "me",
        "if",
        "by",
        "at",
        "from",
        "which",
        "i",
        "can",
    }
)
OTHER_SCRIPT: Final = re.compile(r"[^\W\d_\u0000-\u024f\u0370-\u03ff\u1d00-\u1fff\u2070-\u24ff]")
"""Letters that are neither Latin nor Greek, which formulas use, nor letter-like signs."""


def around(text: str, match: re.Match[str]) -> str:
    """A match with some text on both sides, on one line."""
    return " ".join(text[max(0, match.start() - 60) : match.end() + 60].split())
