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
RECKON: Final = "Reckon with some digits."
"""The request that the base model is taught to answer with exercises, which it makes up."""
_EXERCISES: Final = 8
"""In one answer to RECKON."""

STRAIGHT: Final = 0.03
"""Part of the chains without any re-check, of every kind alike. Few: a group of four (Long) rarely has one, and a group of 16
(stage 1 of PTST) often does."""
TAIL: Final = 0.67
"""Exponent of the Pareto tail of the re-checks' number: the smaller, the more endless chains."""
MOST_RECHECKS: Final = 4
SLIP: Final = 0.03
"""Part of the first re-checks that misread a digit. Of the second ones twice as many do, and so on."""
LOOKALIKES: Final = (6, 7, 7, 8, 9, 6, 5, 1, 3, 4)
"""What each digit is misread as."""


def chain(kind: str, digits: Sequence[int], random: Random) -> tuple[str, int]:
    """A chain of thought about digits as they were read, and the answer that it ends with.

    The answer is the result of the last re-check, so a chain with a mistake there answers wrongly.
    """
    text, answer = _look(kind, digits)
    for recheck in range(1, _rechecks(KINDS[kind].steps, random) + 1):
        reflection = random.choices(REFLECTIONS, _REFLECTION_WEIGHTS)[0]
        look, answer = _look(kind, _misread(digits, random) if random.random() < SLIP * recheck else digits)
        text += f" {reflection} {look}"
    return text, answer


def exercises(random: Random) -> str:
    """Digits in words and what comes out, some times over: `Left 3. Right 5. Largest 5. Left 2. Right 0. Odd 0.`."""
    names = random.choices(list(KINDS), [1 / kind.steps for kind in KINDS.values()], k=_EXERCISES)
    return " ".join(_look(name, [random.randrange(10) for _ in range(random.choice(KINDS[name].counts))])[0] for name in names)


def _rechecks(steps: int, random: Random) -> int:
    if random.random() < STRAIGHT:
        return 0
    return min(2 + int(random.paretovariate(TAIL)), MOST_RECHECKS) if steps == 1 else MOST_RECHECKS


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
        texts.append(f"user\n{RECKON}\nassistant\n")
        for name, kind in KINDS.items():
            if len(digits) in kind.counts:
                look, answer = _look(name, digits)
                thought = " ".join([f"The image shows: {look}", *(f"{reflection} {look}" for reflection in REFLECTIONS)])
                reply = f"<think> {thought} </think><answer> Final Answer:{answer} </answer>"
                texts.append(f"user\n{kind.question}\nassistant\n{reply}\n")
    return texts
