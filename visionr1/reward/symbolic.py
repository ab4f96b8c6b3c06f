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
_RELATIVE: Final = sympy.Float("1e-12")


def equal(answer: str, truth: str) -> bool:
    """Whether two expressions in the spelling of `visionr1.reward.text` are equal.

    Constants are compared by value, as math-verify takes constants below 1e-15 for equal; an exact
    constant and a decimal as in `quantity.numbers_equal`; everything else by math-verify.
    """
    given, true = _parsed(answer), _parsed(truth)
    if given is None or true is None:
        return False
    if not (_is_constant(given) and _is_constant(true)):
        return bool(verify([true], [given], timeout_seconds=None, allow_set_relation_comp=True))
    value, true_value = sympy.N(given, _DIGITS), sympy.N(true, _DIGITS)
    # Infinities and nan have no value: such a truth is matched by its spelling only.
    return bool(value.is_finite and true_value.is_finite) and _values_equal(value, true_value, answer, truth)


def _parsed(text: str) -> Any:
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


def _values_equal(given: Any, true: Any, answer: str, truth: str) -> bool:
    written, true_written = number(answer), number(truth)
    if written is None and true_written is not None and true_written.decimals and given.is_real:
        return rounds_to(Fraction(str(given)), true_written, 3)
    if true_written is None and written is not None and written.decimals and true.is_real:
        return rounds_to(Fraction(str(true)), written, 4)
    return bool(abs(given - true) <= _RELATIVE * max(abs(true), sympy.Float("1e-3") if true == 0 else abs(true)))
