r"""Texts that JSON has damaged (`"\frac"` with one backslash is a form feed and `rac`), and answers that nothing equals."""

from __future__ import annotations

import re
from typing import Final

_ESCAPES: Final = {"\a": "a", "\b": "b", "\t": "t", "\n": "n", "\v": "v", "\f": "f", "\r": "r"}
_NAMES: Final = {
    "\a": "a bell",
    "\b": "a backspace",
    "\t": "a tab",
    "\n": "a line end",
    "\v": "a vertical tab",
    "\f": "a form feed",
    "\r": "a carriage return",
}
# Tabs and line ends may be meant, so they count only before the rest of a known command that is no word or letter by itself.
_EATEN: Final = re.compile(
    r"(?P<mark>[\a\b\f])(?=[A-Za-z])"
    r"|(?P<blank>\t)(?=(?:heta|imes|ext(?:bf|it|rm|sf|tt|style)?|anh?|riangle(?:q|left|right)?|frac|binom|au|op?|herefore|ilde)(?![a-z]))"
    r"|(?P<line>\n)(?=(?:eq|abla|o(?:tin|t)|leq|geq|subseteq|cong|earrow|warrow|onumber)(?![a-z]))"
    r"|(?P<upright>\v)(?=(?:ec|ert|ee|dots|ar(?:phi|epsilon|theta|rho|sigma|nothing))(?![a-z]))"
    r"|(?P<return>\r)(?=(?:ight(?:arrow)?|angle|ho|floor|ceil|m|brace|brack|[vV]ert)(?![a-z]))"
)


def repaired(text: str) -> str:
    """`text` with the backslashes that a JSON reader has eaten, and one where it has two before a command."""
    text = _EATEN.sub(lambda found: "\\" + _ESCAPES[found.group()], text)
    return text if r"\begin" in text else re.sub(r"\\\\(?=[A-Za-z])", r"\\", text)


def eaten(text: str) -> str:
    """The first place where a JSON reader has eaten a backslash, in words; "" if there is none."""
    found = _EATEN.search(text)
    if found is None:
        return ""
    rest = re.split("[^A-Za-z]", text[found.end() :][:20], maxsplit=1)[0]
    return f"{_NAMES[found.group()]} before {rest!r}: a backslash was lost from \\{_ESCAPES[found.group()]}{rest}"


def unreadable(text: str) -> str:
    """What makes `text` no answer that anything can be compared with, in words; "" if nothing does."""
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", text):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return "a } without a {"
    return "a { without a }" if depth else ""
