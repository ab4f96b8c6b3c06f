"""Which texts are only mathematics, and when two texts have the same spelling."""

from __future__ import annotations

import re
from typing import Final

from visionr1.reward.text import squeezed
from visionr1.reward.verdict import Ask

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


def is_maths(text: str) -> bool:
    """Whether canonical `text` is nothing but mathematics: known commands, variables, no words or stray signs."""
    if not all(_COMMANDS.fullmatch(command) for command in re.findall(r"\\([A-Za-z]+)", text)):
        return False
    return not _NOT_MATHS.search(re.sub(r"\\(?:begin|end) ?\{[a-z]+\}|\\[A-Za-z]+", r"\\", text))


def same_spelling(given: str, true: str) -> bool:
    """Whether two canonical texts have the same spelling. Case counts in algebra, but not in words."""
    given, true = squeezed(given), squeezed(true)
    return given == true or (given.lower() == true.lower() and (len(true) == 1 or not is_maths(true)))


def same_algebra(given: str, true: str, ask: Ask) -> bool | None:
    """What `ask` says of two canonical texts; False unless both are mathematics."""
    return ask(squeezed(given), squeezed(true)) if is_maths(given) and is_maths(true) else False
