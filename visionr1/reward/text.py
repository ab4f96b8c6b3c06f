r"""One plain spelling for the many ways an answer is written.

`canonical` turns Unicode, Markdown and LaTeX typography into one ASCII form (only `°` stays), in
which `*` multiplies, `\frac`, `\sqrt` and exponents have braces, and words stand free of `\text`.
All functions here are linear in the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from visionr1.data.damage import repaired
from visionr1.reward.glyphs import plain_glyphs
from visionr1.reward.lead_in import without_lead_in, without_markdown

_END: Final = r"(?![A-Za-z])"
# The order matters: each rule sees the text that the ones before it left.
_RULES: Final = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\bUS ?\\?\$|(?<!\\)\\\$|^\$(?=\d[^$]*$)", "USD "),
        (r'^["“]([^"“”]*)["”]\.?$', r"\1"),
        (r"\$|(?<!\\)\\[()\[\]]", " "),
        (
            r"\\(?:text|textbf|textit|textrm|textnormal|mathrm|mathbf|mathit|mathsf|boldsymbol|bm|underline|operatorname"
            r"|mbox|hbox)\s*\{([^{}]*)\}",
            r" \1 ",
        ),
        (rf"\\(?:left|right|bigg?[lr]?|Bigg?[lr]?|displaystyle|textstyle|limits|rm|bf|it){_END}", ""),
        (r"\{,\}|,\\! ?|\\!", ""),
        (r"(?<=\d)\s*~\s*(?=\d)", " to "),
        (rf"(?<!\\)\\[,;:> ]|\\q?quad{_END}|~", " "),
        (r"\\?&", " and "),
        (rf"\\(?:lor|vee){_END}", " or "),
        (rf"\\(?:land|wedge){_END}", " and "),
        (rf"\\(?:ldots|cdots|dots){_END}", "..."),
        (rf"\\[dtc]frac{_END}", r"\\frac"),
        (rf"\\(?:leqslant|leqq|leq|le){_END}|<=", r"\\le "),
        (rf"\\(?:geqslant|geqq|geq|ge){_END}|>=", r"\\ge "),
        (rf"\\(?:neq|ne){_END}|!=", r"\\ne "),
        (rf"\\lt{_END}", "<"),
        (rf"\\gt{_END}", ">"),
        (rf"\\(?:approx|simeq|thickapprox){_END}", r"\\approx "),
        (rf"\\(?:cdot|times|ast){_END}", "*"),
        (rf"\\div{_END}", "/"),
        (rf"\^\s*\{{?\s*\\circ{_END}\s*\}}?|\\degree{_END}|\^\s*°|(?<=\d)\s*\^\s*\{{?\s*o\s*\}}?(?![A-Za-z])", "°"),
        (r"\\%", "%"),
        (rf"\\(?:langle|lparen){_END}", "("),
        (rf"\\(?:rangle|rparen){_END}", ")"),
        (rf"\\varnothing{_END}", r"\\emptyset "),
        (r"\\(triangle|angle) ?\{([A-Z\d]{1,3})\}", r"\\\1 \2"),
        (rf"\\Delta ?(?=[A-Z]{{3}}{_END})", r"\\triangle "),
        (r"(?<=[A-Z]) ?\\\| ?(?=[A-Z])", r" \\parallel "),
        (rf"\\lbrace{_END}", r"\\{"),
        (rf"\\rbrace{_END}", r"\\}"),
        (r"==+", "="),
        (r"^([A-J]) ?选?项$", r"\1"),
        (r"(?<=[A-Z]) ?// ?(?=[A-Z])", r" \\parallel "),
        (rf"(?<![A-Za-z\\])[Tt]riangle(?= [A-Z]{{3}}{_END})", r"\\triangle"),
        (rf"(?<![A-Za-z\\])[Aa]ngle(?= (?:[A-Z]|[A-Z]{{3}}|\d){_END})", r"\\angle"),
        (r"(?<=\d) ?[xX] ?(?=10 ?\^)", "*"),
        (r"(?<![A-Za-z\\])pi(?![A-Za-z])", r"\\pi "),
        (r"(?<![A-Za-z\\])(?:inf|infinity)(?![A-Za-z])", r"\\infty "),
        (r"(?<![A-Za-z\\])sqrt", r"\\sqrt"),
        (r"\\sqrt(\[\d\])?\s*\(([^()]*)\)", r"\\sqrt\1{\2}"),
        (r"\\sqrt(\[\d\])?\s*(\d+|[a-z](?![A-Za-z]))", r"\\sqrt\1{\2}"),
        (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
        (r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{"),
        (r"(\\frac\s*\{[^{}]*\})\s*(\d)", r"\1{\2}"),
        (r"(?<=\d) (\d+)/(\d+)", r"\\frac{\1}{\2}"),
        (r"°\s*(?=[CF]\b)", "°"),
        (r"\^\s*\(([^()]*)\)", r"^{\1}"),
        (r"\^\s*(-?\d+|[A-Za-z])", r"^{\1}"),
        (r"_\s*(\d|[A-Za-z])(?![A-Za-z\d])", r"_{\1}"),
        (r"\s+", " "),
    )
)
_GOES_ON: Final = re.compile(r"\.\d*?(\d{1,9}?)\1{2,}\.\.\.$")
"""`0.333...`: its points are not a full stop."""
_MATRIX_RULES: Final = tuple(rule for rule in _RULES if rule[0].pattern != r"\\?&")  # There, `&` parts columns.


@lru_cache(maxsize=1024)
def canonical(text: str) -> str:
    """`text` in the plain spelling of this module, with single spaces and no lead-in, box or full stop."""
    text = without_markdown(plain_glyphs(repaired(text)))
    text = _unboxed(without_lead_in(text.strip("*`_ \n\t")))
    for pattern, replacement in _MATRIX_RULES if r"\begin" in text else _RULES:
        text = pattern.sub(replacement, text)
    text = without_lead_in(text.strip(" *`_"))
    return text if text.endswith("...") and _GOES_ON.search(text[-60:]) else text.rstrip(".,; *`_")


def squeezed(text: str) -> str:
    """`text` without spaces, but for those that part two words or two numbers."""
    return re.sub(r"(?<![A-Za-z\d]) | (?![A-Za-z\d])|(?<=\d) (?=[A-Za-z])|(?<=[A-Za-z]) (?=\d)", "", text)


def split_top(text: str, separator: re.Pattern[str]) -> list[str]:
    """The parts of `text` between separators outside all brackets, without empty ones."""
    parts, depth, start = [], 0, 0
    cuts = {match.start(): match.end() for match in separator.finditer(text)}
    for index, character in enumerate(text):
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif depth == 0 and index in cuts and index >= start:
            parts.append(text[start:index])
            start = cuts[index]
    return _filled([*parts, text[start:]])


def group(text: str) -> tuple[str, str, str] | None:
    """(opening, inside, closing) if one pair of brackets is around all of `text`, else None."""
    for opening, closings in (("(", (")", "]")), ("[", ("]", ")")), ("\\{", ("\\}",)), ("{", ("}",))):
        for closing in closings:
            if text.startswith(opening) and text.endswith(closing) and len(text) > len(opening) + len(closing):
                inside = text[len(opening) : -len(closing)]
                return (opening.strip("\\"), inside.strip(), closing.strip("\\")) if _balanced(inside) else None
    return None


def nesting(text: str) -> int:
    """The deepest nesting of brackets."""
    depth = deepest = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    return deepest


def _balanced(text: str) -> bool:
    depth = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if depth < 0:
            return False
    return depth == 0


def _unboxed(text: str) -> str:
    r"""Without `\boxed` and `\fbox`. Their content stays."""
    pieces = re.split(r"\\[bf](?:oxed|box)\s*(?=\{)", text)
    for index, piece in enumerate(pieces[1:], start=1):
        depth = 0
        for end, character in enumerate(piece):
            depth += (character == "{") - (character == "}")
            if depth == 0:
                pieces[index] = f" {piece[1:end]} {piece[end + 1 :]}"
                break
    return "".join(pieces)


def _filled(parts: Iterable[str]) -> list[str]:
    return [part.strip() for part in parts if part.strip()]
