"""Mathematical equality by math-verify and sympy. Can hang or die: run it in `visionr1.reward.pool` only."""

from __future__ import annotations

import logging
import re
from fractions import Fraction
from typing import Any, Final

import sympy
from latex2sympy2_extended.latex2sympy2 import NormalizationConfig, latex2sympy
from math_verify import verify
from math_verify.grader import should_treat_as_complex

from visionr1.reward.quantity import number, rounds_to

logging.disable(logging.CRITICAL)

# The text is canonical and is one expression as a whole. `math_verify.parse` would search it for one, so its parser
# is called directly, without its repairs.
_AS_WRITTEN: Final = NormalizationConfig(
    basic_latex=True, units=False, malformed_operators=False, nits=False, boxed="none", equations=False
)
_DIGITS: Final = 30
_NEAR: Final = sympy.Float("1e-12")
_MOST_DIGITS: Final = 100_000
"""Exact values with more decimal digits are not written out."""
_THOUSANDS: Final = re.compile(r"(?<![\d,.])[1-9]\d{0,2}(?:,\d{3})+(?![\d,])")
_JOINED: Final = re.compile(r" (or|and) ")


def equal(answer: str, truth: str) -> bool:
    """Whether two expressions in the spelling of `visionr1.reward.text` are equal.

    Constants are compared exactly, however large and however near to each other, as math-verify takes those below 1e-15 for
    equal; an exact constant and a decimal as in `quantity.numbers_equal`; conditions that ` or ` and ` and ` join by the values
    that they hold for; everything else by math-verify.
    """
    if _JOINED.search(answer) or _JOINED.search(truth):
        return _same_conditions(answer, truth)
    given, true = _parsed(answer), _parsed(truth)
    if given is None or true is None:
        return False
    if not (_is_constant(given) and _is_constant(true)):
        return bool(verify([true], [given], timeout_seconds=None, allow_set_relation_comp=True))
    value, true_value = sympy.N(given, _DIGITS), sympy.N(true, _DIGITS)
    # Infinities and nan have no value. A truth like this is compared by its spelling only.
    if not (value.is_finite and true_value.is_finite):
        return False
    return _rounded(value, true_value, answer, truth) or _same_constant(given, true, value, true_value)


def _parsed(text: str) -> Any:
    if not re.search(r"[(\[{]", text):
        text = _THOUSANDS.sub(lambda number: number.group().replace(",", ""), text)
        if re.search(r"\d,\d", text):
            return None  # It would be read as a decimal point.
    latex = _latex(text)
    is_real = not should_treat_as_complex(latex)
    try:
        return latex2sympy(latex, is_real=is_real, convert_degrees=False, normalization_config=_AS_WRITTEN)
    except MemoryError:
        raise
    except Exception:  # The parser has no error type of its own; what it cannot read is no right answer.
        return None


def _latex(text: str) -> str:
    """LaTeX for math-verify, which reads `R` as `r`: capitals get a subscript to stay apart."""
    text = re.sub(r"(?<![A-Za-z\\])(arc)?(sin|cos|tan|cot|sec|csc|log|ln|lg|exp|min|max|gcd|det)(?![A-Za-z])", r"\\\1\2 ", text)
    text = re.sub(r"\\mathbb ?\{[A-Z]\}|\\[A-Za-z]+|[A-Z](?!_)", lambda found: _apart(found.group()), text)
    return text.replace("*", r"\cdot ")


def _apart(token: str) -> str:
    return token if token.startswith("\\") else f"{token.lower()}_{{0}}"


def _is_constant(expression: Any) -> bool:
    return isinstance(expression, sympy.Expr) and expression.is_number


def _rounded(value: Any, true_value: Any, answer: str, truth: str) -> bool:
    """Whether one is written as a decimal, the other is not, and the one is the other rounded."""
    written, true_written = number(answer), number(truth)
    if written is None and true_written is not None and true_written.decimals and value.is_real:
        return rounds_to(Fraction(str(value)), true_written, 3)
    if true_written is None and written is not None and written.decimals and true_value.is_real:
        return rounds_to(Fraction(str(true_value)), written, 4)
    return False


def _same_constant(given: Any, true: Any, value: Any, true_value: Any) -> bool:
    """Exactly equal; `value` and `true_value` are their first digits, which are enough to see that most pairs differ."""
    scale = abs(true_value) if true_value != 0 else sympy.Float("1e-3")
    if abs(value - true_value) > _NEAR * scale:
        return False
    if sympy.log(abs(true_value) + 1, 10) > _MOST_DIGITS:
        return bool(given == true)
    exact, true_exact = (_written_out(constant) for constant in (given, true))
    if exact.is_Rational and true_exact.is_Rational:
        return bool(exact == true_exact)
    # Digits of the difference until one is not 0, or up to as many as no two different short expressions share.
    difference = abs(sympy.N(exact - true_exact, _DIGITS, maxn=1000))
    return bool(difference <= sympy.Float("1e-200") * scale)


def _written_out(constant: Any) -> Any:
    """`constant` with decimals as exact fractions and powers, factorials and binomials of numbers as integers."""
    decimals = {decimal: sympy.Rational(str(decimal)) for decimal in constant.atoms(sympy.Float)}
    return constant.xreplace(decimals).doit()


def _same_conditions(answer: str, truth: str) -> bool:
    """Whether conditions on one real variable, or the set of its values, are true for the same numbers."""
    sides = []
    variables: set[Any] = set()
    for text in (answer, truth):
        parts = _JOINED.split(text)
        parsed = [_parsed(part) for part in parts[::2]]
        joints = set(parts[1::2])
        if len(joints) > 1 or not all(isinstance(part, sympy.Set | sympy.logic.boolalg.Boolean) for part in parsed):
            return False
        variables |= {symbol for part in parsed for symbol in part.free_symbols}
        if len(variables) > 1:
            return False
        sets = [part if isinstance(part, sympy.Set) else part.as_set() for part in parsed]
        sides.append(sympy.Intersection(*sets) if joints == {"and"} else sympy.Union(*sets))
    return bool(sides[0] == sides[1])
