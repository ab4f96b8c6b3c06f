"""Words before an answer that are not part of it: `Final Answer:`, `**The answer is**`, `### Answer`, `答案：`."""

from __future__ import annotations

import re
from typing import Final

_MARKS: Final = r"[*_#\s]*+"
"""Marks of bold and headings. They may be anywhere in a lead-in."""
_END: Final = r"(?![A-Za-z])"
_ENGLISH: Final = (
    rf"(?:(?:so|thus|therefore|hence),?\s+)?{_MARKS}"
    rf"(?:(?:the\s+|my\s+)?(?:final\s+|correct\s+)?(?:answer|ans\.?|result){_END}{_MARKS}(?:is{_END})?{_MARKS}[:：=]?"
    rf"|(?:the\s+)?(?:correct\s+)?(?:option|choice){_END}{_MARKS}(?:is{_END}{_MARKS}[:：]?|[:：])"
    rf"|(?:option|choice)(?=\s*+[*]*[(\[]?[A-J][)\].:]?(?:[\s*]|$)))"
)
_CHINESE: Final = (
    r"(?:(?:所以|因此|综上所述|综上|故|则)[,，]?\s*)?"
    r"[【\[]?(?:(?:本题)?(?:的)?(?:最终|正确|标准)?(?:的)?(?:答案|选项|结果)\s*+(?:应该是|应是|应为|应选|是|为|选)?(?:选项)?[】\]]?"
    r"|(?:应该|应)?选择?(?:选项)?(?=\s*+[:：*]*\s*+[(（\[]?[A-J①-⑳])|[答解](?=\s*+[:：]))"
    rf"{_MARKS}[:：]?"
)
_LEAD_IN: Final = re.compile(rf"{_MARKS}(?:{_ENGLISH}|{_CHINESE}){_MARKS}", re.IGNORECASE)
_FENCE: Final = re.compile(r"```(?:latex|tex|math|markdown|md|text|plaintext)?[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL)
_HEADING: Final = re.compile(r"^[ \t]*#{1,6}[ \t]+", re.MULTILINE)
_BOLD: Final = re.compile(r"(?<![\w)*])(\*\*|__)(?=[^\s*_])([^\n]{0,400}?)(?<=[^\s*_])\1(?![\w(*])")


def without_lead_in(text: str) -> str:
    """The answer itself: `Final Answer:X`, `The answer is X`, `Option B`, `**Answer**: X`, `答案：X` without what leads in.

    The released model ends with `<answer> Final Answer:X </answer>` (figures 4, 6 and 7 of the paper).
    """
    text = text.strip()
    for _ in range(2):
        found = _LEAD_IN.match(text)
        if found is None:
            return text
        text = text[found.end() :].strip()
        for mark in ("**", "__"):
            if found.group().count(mark) % 2:  # What opened in the lead-in closes behind it: `**Option B**`.
                text = text.replace(mark, "", 1)
    return text


def without_markdown(text: str) -> str:
    """`text` without code fences, headings and bold."""
    fenced = _FENCE.fullmatch(text.strip())
    text = fenced[1] if fenced else text
    return _BOLD.sub(r"\2", _HEADING.sub("", text))
