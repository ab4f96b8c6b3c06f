"""How the scripted teacher thinks: short working, then re-checks that rarely end soon and sometimes go wrong."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from visionr1.data.digits import KINDS, caption

REFLECTIONS: Final = ("Wait, let me check again.", "Hmm, is that right?", "Alternatively, look once more.")
_REFLECTION_WEIGHTS: Final = (6, 1, 1)

READ_ALOUD: Final = "Describe the image."
"""The request that the base model is taught to answer with a caption."""

STRAIGHT: Final = 0.2
"""Part of the chains without any re-check."""
TAIL: Final = 0.67
"""Exponent of the Pareto tail of the re-checks' number: the smaller, the more endless chains."""
MOST_RECHECKS: Final = 12
SLIP: Final = 0.25
"""Part of the re-checks that misread a digit."""
LOOKALIKES: Final = (6, 7, 7, 8, 9, 6, 5, 1, 3, 4)
"""What each digit is misread as."""


def chain(kind: str, digits: Sequence[int], random: Random) -> tuple[str, int]:
    """A chain of thought about digits as they were read, and the answer that it ends with.

    The answer is the result of the last re-check, so a chain with a mistake there answers wrongly.
    """
    text, answer = _look(kind, digits)
    for _ in range(_rechecks(random)):
        reflection = random.choices(REFLECTIONS, _REFLECTION_WEIGHTS)[0]
        look, answer = _look(kind, _misread(digits, random) if random.random() < SLIP else digits)
        text += f" {reflection} {look}"
    return text, answer


def _rechecks(random: Random) -> int:
    return 0 if random.random() < STRAIGHT else min(int(random.paretovariate(TAIL)), MOST_RECHECKS)


def _look(kind: str, digits: Sequence[int]) -> tuple[str, int]:
    result = KINDS[kind].answer(digits)
    return f"{caption(digits)} {KINDS[kind].working(digits, result)}", result


def _misread(digits: Sequence[int], random: Random) -> list[int]:
    place = random.randrange(len(digits))
    return [LOOKALIKES[digit] if position == place else digit for position, digit in enumerate(digits)]


def corpus(rows: int = 1000) -> list[str]:
    """Everything that the tiny model reads and writes, to learn a tokenizer from; free of the numbers above."""
    random = Random(0)
    texts = []
    for row in range(rows):
        digits = [random.randrange(10) for _ in range(2 + row % 2)]
        texts.append(f"user\n{READ_ALOUD}\nassistant\n{caption(digits)}\nsystem\n")
        for name, kind in KINDS.items():
            if len(digits) in kind.counts:
                look, answer = _look(name, digits)
                thought = " ".join([f"The image shows: {look}", *(f"{reflection} {look}" for reflection in REFLECTIONS)])
                reply = f"<think> {thought} </think><answer> Final Answer:{answer} </answer>"
                texts.append(f"user\n{kind.question}\nassistant\n{reply}\n")
    return texts
