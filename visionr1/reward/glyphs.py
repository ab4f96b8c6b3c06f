"""Unicode's many signs in the spelling of LaTeX and ASCII."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

_GREEK: Final = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "θ": "theta", "λ": "lambda", "μ": "mu", "π": "pi",
    "ρ": "rho", "σ": "sigma", "τ": "tau", "φ": "phi", "ω": "omega", "Δ": "Delta", "Σ": "Sigma", "Φ": "Phi", "Ω": "Omega",
}  # fmt: skip
_SYMBOLS: Final = {
    "−": "-", "–": "-", "—": "-", "﹣": "-", "‐": "-", "‑": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ",
    "∙": r"\cdot ", "÷": r"\div ", "⁄": "/", "∕": "/", "∶": ":", "±": r"\pm ", "√": r"\sqrt ", "∞": r"\infty ",
    "∛": r"\sqrt[3] ", "∜": r"\sqrt[4] ",
    "≤": r"\le ", "⩽": r"\le ", "≦": r"\le ", "≥": r"\ge ", "⩾": r"\ge ", "≧": r"\ge ", "≠": r"\ne ", "≈": r"\approx ",
    "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ", "∨": " or ", "∧": " and ",
    "∠": r"\angle ", "△": r"\triangle ", "▵": r"\triangle ", "∥": r"\parallel ", "⫽": r"\parallel ", "⊥": r"\perp ",
    "≅": r"\cong ", "≌": r"\cong ", "∽": r"\sim ", "∼": r"\sim ", "∵": " ", "∴": " ",
    "º": "°", "˚": "°", "′": "'", "’": "'", "‘": "'", "″": '"', "…": "...", "⋯": "...",
    "、": ", ", "。": ". ", "，": ",", "或": " or ", "和": " and ", "且": " and ", "与": " and ", "及": " and ",
    "度": "°", "￥": "¥", "【": "[", "】": "]", "⟨": r"\langle ", "⟩": r"\rangle ",
}  # fmt: skip
_INVISIBLE: Final = ("\u00ad", "\u200b", "\u200c", "\u200d", "\u200e", "\u200f", "\u2060", "\ufe0e", "\ufe0f", "\ufeff")
_BLANK_LETTERS: Final = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
"""Characters that Unicode calls letters, marks or symbols, and that show nothing."""
_LABEL: Final = re.compile(r"(^|[:：是为选])([ABCDEFGHIJ])、(?=\s*(?:[^A-J\s]|[A-J]\w))")
"""`A、5` is option A and its text; `A、C` is two letters."""
_SUPERSCRIPTS: Final = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUBSCRIPTS: Final = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")


def plain_glyphs(text: str) -> str:
    """`text` in ASCII and LaTeX as far as it has signs that mean the same; what has none stays (`①`, `厘`, `€`)."""
    text = _braced(text, "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "^", _SUPERSCRIPTS)
    text = _LABEL.sub(r"\1\2. ", _braced(text, "₀₁₂₃₄₅₆₇₈₉", "_", _SUBSCRIPTS))
    return text.replace("摄氏度", "°C").replace("华氏度", "°F").translate(_TABLE)


def is_blank(text: str) -> bool:
    """Whether nothing of `text` can be seen: blanks, control and format characters, letters without ink."""
    return all(
        character.isspace() or unicodedata.category(character) in ("Cc", "Cf", "Mn") or character in _BLANK_LETTERS
        for character in text
    )


def _braced(text: str, characters: str, mark: str, table: dict[int, int]) -> str:
    return re.sub(f"[{characters}]+", lambda run: f"{mark}{{{run.group().translate(table)}}}", text)


def _fraction(sign: str) -> str:
    top, _, bottom = unicodedata.normalize("NFKC", sign).partition("\u2044")
    return rf"\frac{{{top}}}{{{bottom}}}"


def _compatible() -> Iterator[tuple[int, str]]:
    """Letters in other shapes (`𝐁`, `Ⓑ`, `⒝`), roman numerals, squared units (`㎝`, `㎡`, `℃`)."""
    for first, last in ((0x2100, 0x214F), (0x2160, 0x217F), (0x249C, 0x24E9), (0x3300, 0x33FF), (0x1D400, 0x1D7FF)):
        for code in range(first, last + 1):
            plain = unicodedata.normalize("NFKC", chr(code))
            if plain != chr(code):
                yield code, _with_powers(plain)


def _with_powers(plain: str) -> str:
    return re.sub(r"(?<=m)[23]$", lambda power: f"^{{{power.group()}}}", plain.replace("μ", "µ").replace("\u2044", "/"))


_TABLE: Final[dict[int, int | str]] = (
    dict(_compatible())
    | {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
    | {ord(sign): _fraction(sign) for sign in "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅐⅛⅜⅝⅞⅑⅒"}
    | {ord(sign): plain for sign, plain in _SYMBOLS.items() if len(sign) == 1}
    | {ord(sign): f"\\{name} " for sign, name in _GREEK.items()}
    | {ord("\u2126"): r"\Omega ", ord("µ"): "µ"}
    | dict.fromkeys(map(ord, _INVISIBLE), "")
)
