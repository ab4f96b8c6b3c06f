"""From words about a description to words about seeing, so that the chain fits the image it is paired with.

The paper replaces "some words for semantic coherence" (section 3.3.1) and does not say which. Its released samples
show what goes wrong when words are replaced blindly and repeatedly ("tangentstouching", "displays displays"). So
phrases are replaced here, at word boundaries, all in one pass; whatever still speaks of a description is rejected.
"""

from __future__ import annotations

import re
from typing import Final

from visionr1.data.coldstart.signs import PICTURE

_KIND: Final = rf"(?:{PICTURE}(?:['’]s)?|detailed|given|provided|above|textual|text|visual|written)"
_DESCRIPTION: Final = (
    rf"(?:the|this|that|your)\s+(?:{_KIND}\s+)*description"
    rf"(?:\s+of\s+(?:the|this)\s+{PICTURE})?(?:\s+(?:provided|given|above)\b)?"
)
_SEEN: Final = rf"(?:the|this)\s+{PICTURE}"
_SAYS: Final = (
    r"(?:says|states|mentions|notes|tells(?:\s+(?:us|me))?|describes|indicates|specifies|explains|reads|lists|reports"
    r"|(?:said|stated|mentioned|noted|described|indicated|specified)(?=\s+that\b))"
)
_ADVERB: Final = r"(?:\s+(?P<adverb>also|clearly|only|just|explicitly))?"
_AGAIN: Final = rf"(?:(?:\s+that)?\s+{_SEEN}\s+(?:shows|displays|depicts|illustrates)\b)?"
_TOLD_IN: Final = r"(?:described|mentioned|stated|noted|specified|given|listed)\s+(?:in|by)"

_PHRASES: Final = re.compile(
    "|".join(
        (
            rf"(?P<as_told>\bas\s+(?:described|stated|mentioned|noted|specified)\s+(?:in|by)\s+(?:{_DESCRIPTION}|{_SEEN})\b)",
            rf"(?P<told>\b{_TOLD_IN}\s+{_DESCRIPTION}\b)",
            rf"(?P<says>\b(?:{_DESCRIPTION}|(?P<seen>{_SEEN})){_ADVERB}\s+{_SAYS}\b{_AGAIN})",
            rf"(?P<description>\b{_DESCRIPTION}\b)",
            rf"(?P<bare>\b{PICTURE}\s+description\b)",
        )
    ),
    re.IGNORECASE,
)


_TRACES: Final = re.compile(
    "descri|says|states|mention|tells|indicates|specify|specifie|explains|reads|lists|reports|said|stated|note|indicated|given|listed"
)
"""One of these is in every phrase; a text without them need not be searched, which takes long."""


def speak_of_seeing(text: str) -> str:
    """The text with phrases about a description put as phrases about the image."""
    return _PHRASES.sub(_replacement, text) if _TRACES.search(text.lower()) else text


def _replacement(match: re.Match[str]) -> str:
    if match["as_told"]:
        new = "as shown in the image"
    elif match["told"]:
        new = "shown in the image"
    elif match["says"]:
        subject = match["seen"] or "the image"
        new = f"{subject} {match['adverb']} shows" if match["adverb"] else f"{subject} shows"
    else:
        new = "image" if match["bare"] else "the image"
    return new[0].upper() + new[1:] if match[0][0].isupper() else new
