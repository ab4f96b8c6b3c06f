"""Whether an answer means the same as the true one.

A wrong reward teaches a wrong policy, so everything in doubt is wrong: an answer must *be* the true
one, whole; it is never searched for in a longer text. The rules, in the order they are tried:

* the same spelling (`visionr1.reward.text`); words ignore case, algebra does not;
* multiple choice: `B`, `(B)`, `B.`, `B. 3π` are the letter B; where the truth holds a value too
  (`B. 3π`), the value alone is right as well, and a letter and a value must both agree;
* `3 or 5`, `3, 5`, `{3, 5}`, `±4` are several values in any order, right only if the truth has just
  these; tuples and intervals keep order and brackets;
* `x = 5` is 5; of `a = b = c` every part must be right; a rounding after `≈` is not read;
* a unit or degree sign may be left out but not contradicted; `50%` is 0.5, and a bare 50 as well;
* numbers as in `quantity.numbers_equal`; everything else mathematical is asked of `ask`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from visionr1.reward.quantity import number, numbers_equal, rounds_to, split_unit
from visionr1.reward.text import canonical, group, nesting, split_top, squeezed

Ask = Callable[[str, str], "bool | None"]
"""Compares two mathematical expressions, (answer, truth); None: cannot be told here."""

LONGEST: Final = 4096
"""Longer answers (characters) are right only if they are spelt as the truth."""
_DEEPEST: Final = 40

_LETTER: Final = re.compile(r"[(\[]?([A-Ha-h])[)\]]?[.:]?")
_LABELLED: Final = re.compile(r"(?:[(\[]([A-Ha-h])[)\]](?:[.:] ?| )|([A-H]) ?[.:)] ?|([a-h])[.)] )(\S.*)")
_SECOND_CHOICE: Final = re.compile(
    r"(?:^|[\s(\[])[(\[]?[A-H](?:[)\].:](?!\d)|$)"
    r"|(?:\b(?:or|and|not)\b|[,;/&|]) ?[(\[]?[A-H]\b|\b[A-H] (?:is|are|too|also|or|and)\b"
)
# A comma between a digit and exactly three digits belongs to a number.
_SEPARATOR: Final = re.compile(r",(?!\d{3}(?!\d))|(?<!\d),|;|(?<![A-Za-z\\])(?:or|and)(?![A-Za-z])")
_COMMA: Final = re.compile(r"[,;]")
_EQUALS: Final = re.compile(r"=")
_APPROX: Final = re.compile(r"\\approx")
_RELATION: Final = re.compile(r"[<>]|\\(?:le|ge|ne|in)(?![A-Za-z])")
# What may stand left of `=` and be dropped: x, AB, f(x), m∠ABC, \sin x, Area of the circle; not `not x`.
_NAME: Final = re.compile(
    r"(?:\\angle ?\d?|\\(?:frac|triangle|overline|widehat|overrightarrow|vec|sin|cos|tan|cot|odot|square|alpha|beta|gamma|delta"
    r"|theta|phi|varphi|lambda|mu|omega|rho|sigma)(?![A-Za-z])|(?!(?i:not)\b)[A-Za-z]++|_\{\w+\}|_\w|[ {}:/]|'(?![a-z])"
    r"|\([A-Za-z](?:, ?[A-Za-z])*\)|\|[A-Z]{2}\|)++"
)
_FUNCTIONS: Final = "sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|sinh|cosh|tanh|log|ln|lg|exp|min|max|gcd|det"
_COMMANDS: Final = re.compile(
    r"frac|sqrt|pi|infty|cup|cap|pm|mp|in|le|ge|ne|emptyset|varnothing|setminus|mathbb|begin|end|binom|to|int|sum|prod|lim|mid"
    r"|alpha|beta|gamma|delta|epsilon|varepsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|rho|sigma|tau|upsilon|phi|varphi|chi"
    r"|psi|omega|Gamma|Delta|Theta|Lambda|Xi|Pi|Sigma|Phi|Psi|Omega|overline|vec|hat|bar|lfloor|rfloor|lceil|rceil|vert"
    rf"|{_FUNCTIONS}"
)
_NOT_MATHS: Final = re.compile(
    r"[^ -~]|[?@#~`\"$%']|\d ?_|\d \d|\.\.|\d\.\d*\.|\b(?i:no|is|it|of|at|if|be|by|as|an|on|so|or)\b"
    rf"|(?<![A-Za-z\\])(?!(?:{_FUNCTIONS})(?![A-Za-z]))[A-Za-z]{{3,}}"
)


def matches(answer: str, truth: str, ask: Ask) -> bool | None:
    """Whether `answer` is `truth`; None if that takes `ask` and it does not know."""
    if len(answer) > LONGEST or len(truth) > LONGEST:
        return answer.split() == truth.split() != []
    given, true = canonical(answer), canonical(truth)
    if not given or not true:
        return False
    if _same_spelling(given, true):
        return True
    if max(nesting(given), nesting(true)) > _DEEPEST:
        return False
    choice = _choices_match(given, true, ask)
    return _same(_value(given), _value(true), ask) if choice is None else choice


def is_maths(text: str) -> bool:
    """Whether canonical `text` is nothing but mathematics: known commands, variables, no words or stray signs."""
    if not all(_COMMANDS.fullmatch(command) for command in re.findall(r"\\([A-Za-z]+)", text)):
        return False
    return not _NOT_MATHS.search(re.sub(r"\\(?:begin|end) ?\{[a-z]+\}|\\[A-Za-z]+", r"\\", text))


def _choices_match(given: str, true: str, ask: Ask) -> bool | None:
    """The verdict where the letters of a multiple choice decide; None if the values must."""
    letter, value = _choice(given)
    true_letter, true_value = _choice(true)
    if not true_letter:
        return None
    if not letter:
        return None if true_value else False
    if letter != true_letter:
        return False
    # `B. c` names a second letter, unless the true answer's value says otherwise.
    return _same(value, true_value, ask) if value and true_value else not _LETTER.fullmatch(value)


def _choice(text: str) -> tuple[str, str]:
    """(letter, value) of `B`, `(B)`, `B. 3π`; ("", "") of anything else and of hedges (`B. 3 or C`)."""
    alone = _LETTER.fullmatch(text)
    if alone:
        return alone[1].upper(), ""
    labelled = _LABELLED.fullmatch(text)
    if labelled and not _SECOND_CHOICE.search(labelled[4]):
        return (labelled[1] or labelled[2] or labelled[3]).upper(), canonical(labelled[4])
    return "", ""


def _value(text: str) -> str:
    """`3π` of `B. 3π`; any other text as it is."""
    return _choice(text)[1] or text


def _same(given: str, true: str, ask: Ask) -> bool | None:
    given, true = _bare(given), _bare(true)
    if _same_spelling(given, true):
        return True
    values, true_values = _values(given), _values(true)
    if values is not None or true_values is not None:
        return _same_values(values or [given], true_values or [true], ask)
    if _RELATION.search(given) or _RELATION.search(true):
        return _asked(given, true, ask)
    point, true_point = _tuple(given), _tuple(true)
    if point and true_point:
        return point[0] == true_point[0] and _same_in_order(point[1], true_point[1], ask)
    if _assignment(given) != ("", [given]) or _assignment(true) != ("", [true]):
        return _same_equation(given, true, ask)
    return _same_quantity(given, true, ask)


def _same_spelling(given: str, true: str) -> bool:
    given, true = squeezed(given), squeezed(true)
    return given == true or (given.lower() == true.lower() and (len(true) == 1 or not is_maths(true)))


def _bare(text: str) -> str:
    r"""Without brackets round one value, `x \in` before a set, and a leading `=`, `≈` or `+`."""
    text = re.sub(r"^(?:=|\\approx|\+)\s*|^[a-zA-Z] ?\\in\s*(?=[(\[\\])", "", text).strip()
    held = group(text)
    while held and held[0] + held[2] in ("()", "{}") and len(split_top(held[1], _COMMA)) == 1:
        text = held[1]
        held = group(text)
    return text


def _values(text: str) -> list[str] | None:
    """The values of a list or set, `±` written out; None for a single value."""
    held = group(text)
    is_set = held is not None and held[0] == "{"
    parts = split_top(held[1], _COMMA) if held is not None and is_set else split_top(text, _SEPARATOR)
    parts = [value for part in parts for value in _plus_and_minus(part)]
    return parts if is_set or len(parts) > 1 else None


def _plus_and_minus(part: str) -> Iterator[str]:
    if part.count(r"\pm") != 1:
        yield part
        return
    for sign in "+-":
        yield _bare(part.replace(r"\pm", sign))


def _tuple(text: str) -> tuple[str, list[str]] | None:
    """(brackets, elements) of a point, vector or interval."""
    held = group(text)
    elements = split_top(held[1], _COMMA) if held else []
    return (held[0] + held[2], elements) if held and len(elements) > 1 else None


def _same_values(given: list[str], true: list[str], ask: Ask) -> bool | None:
    """The same values, each once, in any order; in order where only one side names them (`x=3, y=5` and `3, 5`)."""
    if len(given) != len(true):
        return False
    names, true_names = ({name for name, _ in map(_assignment, values) if name} for values in (given, true))
    if (len(names) > 1 and not true_names) or (len(true_names) > 1 and not names):
        return _same_in_order(given, true, ask)
    unsure = False
    for true_value in true:
        verdicts = [_same(value, true_value, ask) for value in given]
        if True in verdicts:
            given = [value for index, value in enumerate(given) if index != verdicts.index(True)]
        elif None in verdicts:
            unsure = True
        else:
            return False
    return None if unsure else True


def _same_in_order(given: list[str], true: list[str], ask: Ask) -> bool | None:
    return len(given) == len(true) and _every(_same(*pair, ask) for pair in zip(given, true, strict=True))


def _every(verdicts: Iterable[bool | None]) -> bool | None:
    seen = list(verdicts)
    return False if False in seen else None if None in seen else True


def _same_equation(given: str, true: str, ask: Ask) -> bool | None:
    name, values = _assignment(given)
    true_name, true_values = _assignment(true)
    if len(true_values) > 1 or (true_name and len(values) > 1):
        return _asked(given, true, ask) if given.count("=") == true.count("=") == 1 else False
    if name and true_name and name != true_name:
        return False
    return _every(_same(value, true_values[0], ask) for value in values)


def _assignment(text: str) -> tuple[str, list[str]]:
    """(name or "", the values said to be equal): `x = 2+3 = 5` is ("x", ["2+3", "5"]), `5` is ("", ["5"])."""
    first, *rounded = split_top(text, _APPROX) or [text]
    parts = split_top(first, _EQUALS) or [text]
    named = _NAME.fullmatch(parts[0]) is not None
    if rounded and named and len(parts) == 1:
        parts.append(rounded.pop(0))
    elif len(parts) == 1 and not rounded:
        return "", [text]
    if not all(_may_be_rounded(parts[-1], decimal) for decimal in rounded):
        return "", [text]
    return (squeezed(parts[0]), parts[1:]) if named and len(parts) > 1 else ("", parts)


def _may_be_rounded(exact: str, decimal: str) -> bool:
    """Whether `exact ≈ decimal` is well formed: a number follows, and the right one if `exact` is a number too."""
    value, rounded = number(split_unit(exact)[0]), number(split_unit(decimal)[0])
    return rounded is not None and (value is None or rounds_to(value.value, rounded, 0))


def _same_quantity(given: str, true: str, ask: Ask) -> bool | None:
    magnitude, unit = split_unit(given)
    true_magnitude, true_unit = split_unit(true)
    if unit and true_unit and unit != true_unit:
        return False
    value, true_value = number(magnitude), number(true_magnitude)
    if "%" in (unit, true_unit) and unit != true_unit:
        if value is None or true_value is None:
            return False
        percent, plain = (value, true_value) if unit else (true_value, value)
        return plain.value == percent.value / 100 or (plain.value == percent.value and abs(plain.value) > 1)
    if value is not None and true_value is not None:
        return numbers_equal(value, true_value)
    return _same_spelling(magnitude, true_magnitude) or _asked(magnitude, true_magnitude, ask)


def _asked(given: str, true: str, ask: Ask) -> bool | None:
    return ask(squeezed(given), squeezed(true)) if is_maths(given) and is_maths(true) else False
