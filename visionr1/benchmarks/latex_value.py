r"""The number that a LaTeX expression stands for, as MATH-Vision's rule takes it.

Its authors read LaTeX with latex2sympy2 1.9.1 and hand the result to Python's `eval`. Verdicts depend on what that parser does
with text that is no clean expression: it reads as far as an expression goes, and takes `1\frac{1}{2}` for a product. Its
successor, which the reward uses, reads one in twelve of the set's texts otherwise. So what the old one does with numbers is
written out here, without `eval`. `tests/benchmarks` has what the old one says.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Final

Number = int | float

_WORDS: Final = (
    "arcsinh|arsinh|arccosh|arcosh|arctanh|artanh|gcd|lcm|floor|ceil|eye|zeros|ones|cols|rows|diag|norm|rank|trace|tr|rref"
    "|hstack|vstack|nullspace|svd"
)
"""Names of functions in that parser's grammar, which end a number before them (`2 triangles`). Other letters do not."""
_TOKEN: Final = re.compile(
    rf"\s*(?:(?P<word>{_WORDS})|"
    r"(?P<number>\d*(?:,\d{3})*\.\d+|\d+(?:,\d{3})*)(?P<percent>\\%)?|(?P<command>\\(?:[A-Za-z]+|[{}\\]))|(?P<sign>[^\s\\])|$)"
)
_IGNORED: Final = re.compile(r"\\displaystyle|\\q?quad|~|\\,|\$|\\left(?![a-z])|\\right(?![a-z])")
_ENDS: Final = {"", ")", "}", "]", ".", "&", "_", r"\}", r"\\", r"\rbrace", r"\rfloor", r"\to", r"\rightarrow", r"\choose"}
"""What may follow an expression. The rest of the text is not looked at."""
_CLOSING: Final = {"(": ")", "{": "}", "[": "]", r"\{": r"\}", r"\lbrace": r"\rbrace", r"\lfloor": r"\rfloor"}
_TIMES: Final = {"*", r"\times", r"\cdot"}
_OVER: Final = {"/", ":", r"\div"}
_RELATIONS: Final[dict[str, Callable[[Number, Number], bool]]] = {
    "<": lambda one, other: one < other,
    ">": lambda one, other: one > other,
    r"\le": lambda one, other: one <= other,
    r"\leq": lambda one, other: one <= other,
    r"\ge": lambda one, other: one >= other,
    r"\geq": lambda one, other: one >= other,
}
_FUNCTIONS: Final[dict[str, Callable[[float], float]]] = {
    r"\sin": math.sin,
    r"\cos": math.cos,
    r"\tan": math.tan,
    r"\arcsin": math.asin,
    r"\arccos": math.acos,
    r"\arctan": math.atan,
    r"\sinh": math.sinh,
    r"\cosh": math.cosh,
    r"\tanh": math.tanh,
    r"\exp": lambda power: _exp(power),
}
_MOST_BITS: Final = 1_000_000
_MOST_FACTORIAL: Final = 10_000


class _NoNumber(Exception):
    """The text is no expression, or has a letter, a list or anything else that is no number."""


def latex_value(text: str) -> Number | None:
    """The number, an int where the authors' program would have one; None if the text stands for none."""
    try:
        reader = _Reader(_IGNORED.sub(" ", text).replace(r"\dfrac", r"\frac").replace(r"\tfrac", r"\frac"))
        return _finite(reader.relation())
    except (_NoNumber, ArithmeticError, ValueError, RecursionError):
        return None


def _finite(number: Number) -> Number:
    if isinstance(number, float) and not math.isfinite(number):
        raise _NoNumber
    return number


class _Reader:
    """Reads from left to right; `here` is the next token."""

    def __init__(self, text: str) -> None:
        self._text, self._place = text, 0
        self._next()

    def _next(self) -> None:
        found = _TOKEN.match(self._text, self._place)
        if found is None:
            raise _NoNumber
        self._place = found.end()
        self._number, self._percent = found["number"], bool(found["percent"])
        self.here = r"\to" if found["word"] else found["number"] or found["command"] or found["sign"] or ""

    def _take(self, token: str) -> None:
        if self._number is not None or self.here != token:
            raise _NoNumber
        self._next()

    def relation(self) -> Number:
        """A sum, or a comparison of sums, which counts as 1 or 0."""
        left = self._sum()
        while self.here in _RELATIONS:
            holds = _RELATIONS[self.here]
            self._next()
            left = int(holds(left, self._sum()))
        if self.here not in _ENDS:
            raise _NoNumber
        return left

    def _sum(self) -> Number:
        total = self._product()
        while self.here in ("+", "-"):
            sign = 1 if self.here == "+" else -1
            self._next()
            total += sign * self._product()
        return total

    def _product(self) -> Number:
        product = self._signed()
        while self.here in _TIMES | _OVER:
            times = self.here in _TIMES
            self._next()
            factor = self._signed()
            product = product * factor if times else product / factor
        return product

    def _signed(self) -> Number:
        sign = 1
        while self.here in ("+", "-"):
            sign = sign if self.here == "+" else -sign
            self._next()
        product = self._power()
        while self._begins():
            product *= self._power()
        return sign * product

    def _begins(self) -> bool:
        """Whether another factor begins here, without a sign for the product."""
        if self._number is not None:
            return True
        return self.here not in _ENDS | _TIMES | _OVER | set(_RELATIONS) | {"+", "-", "^", "!", "'", "=", ",", ";"}

    def _power(self) -> Number:
        power = self._atom()
        while self.here in ("^", "!", "'"):
            sign = self.here
            self._next()
            if sign == "!":
                power = _factorial(power)
            elif sign == "^":
                power = _raised(power, self._exponent())
        return power

    def _exponent(self) -> Number:
        return self._group() if self.here == "{" and self._number is None else self._plain()

    def _atom(self) -> Number:
        if self._number is None and self.here in _CLOSING:
            return self._group()
        name = self.here
        if self._number is not None or name in (r"\pi", "e"):
            return self._plain()
        self._next()
        if name == r"\frac":
            return self._braced() / self._braced()
        if name == r"\sqrt":
            return self._root()
        if name == r"\binom":
            return _chosen(_whole(self._braced()), _whole(self._braced()))
        if name == r"\log":
            return self._log()
        if name in _FUNCTIONS:
            power = self._function_power()
            return _raised(_FUNCTIONS[name](self._argument()), power)
        raise _NoNumber

    def _plain(self) -> Number:
        """A number, pi, or a power of e; e alone has no value here, as it has none for the authors' program."""
        if self._number is not None:
            exact = Fraction(self._number.replace(",", "")) / (100 if self._percent else 1)
            self._next()
            return exact.numerator if exact.denominator == 1 else exact.numerator / exact.denominator
        name = self.here
        self._next()
        if name == r"\pi":
            return math.pi
        if name == "e" and self.here == "^":
            self._next()
            return _exp(self._exponent())
        raise _NoNumber

    def _group(self) -> Number:
        opening = self.here
        self._next()
        inside = self._sum()
        self._take(_CLOSING[opening])
        return math.floor(inside) if opening == r"\lfloor" else inside

    def _braced(self) -> Number:
        if self.here != "{":
            raise _NoNumber
        return self._group()

    def _root(self) -> Number:
        if self.here == "[":
            degree = self._group()
            return _raised(self._braced(), 1 / degree)
        return math.sqrt(self._braced())

    def _log(self) -> Number:
        base: Number = 10
        if self.here == "_":
            self._next()
            base = self._exponent()
        return math.log(self._argument(), base)

    def _function_power(self) -> Number:
        if self.here != "^":
            return 1
        self._next()
        return self._exponent()

    def _argument(self) -> Number:
        """In round brackets just what is in them, else all that is multiplied."""
        return self._group() if self.here == "(" and self._number is None else self._product()


def _exp(power: Number) -> float:
    if power == 1:
        raise _NoNumber  # it comes out as the letter e, which has no value
    return math.exp(power)


def _factorial(number: Number) -> int:
    if _whole(number) > _MOST_FACTORIAL:
        raise _NoNumber
    return math.factorial(_whole(number))


def _chosen(of: int, some: int) -> int:
    if of.bit_length() * min(some, of - some) > _MOST_BITS:
        raise _NoNumber
    return math.comb(of, some)


def _whole(number: Number) -> int:
    if not isinstance(number, int):
        raise _NoNumber
    return number


def _raised(base: Number, exponent: Number) -> Number:
    if isinstance(base, int) and isinstance(exponent, int):
        if exponent * base.bit_length() > _MOST_BITS:
            raise _NoNumber
        whole: Number = base**exponent
        return whole
    power = base**exponent
    if isinstance(power, complex):
        raise _NoNumber
    return _finite(power)
