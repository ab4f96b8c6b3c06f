"""Where an answer stands in a reply, before any set's rule looks at it."""

from __future__ import annotations

import re
from typing import Final

from visionr1.reward.lead_in import without_lead_in

_BLOCK: Final = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_BOX: Final = re.compile(r"\\boxed\s*\{")


def answer_block(reply: str) -> str | None:
    """The text of the last answer block, without words like `Final Answer:`; None if the reply has no whole block."""
    blocks = _BLOCK.findall(reply)
    return without_lead_in(blocks[-1]) if blocks else None


def after_thought(reply: str) -> str:
    """What follows the thought; "" if the thought was cut before its end."""
    before, closed, after = reply.rpartition("</think>")
    if closed:
        return after
    return "" if "<think>" in reply else reply


def boxed(text: str) -> list[str]:
    r"""The contents of each `\boxed{}` in order; a box that never closes holds nothing."""
    starts = {box.end() for box in _BOX.finditer(text)}
    found: dict[int, str] = {}
    opened: list[int] = []
    for place, character in enumerate(text):
        if character == "{":
            opened.append(place + 1)
        elif character == "}" and opened and (start := opened.pop()) in starts:
            found[start] = text[start:place]
    return [found[start] for start in sorted(found)]
