"""How long completions and prompts will be: what is known before a run, from the paper's curves, and how lengths are spread."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from visionr1.recipe.schema import Recipe

Curve = tuple[tuple[float, float], ...]

PTST_CURVE: Final[Curve] = ((0, 2350), (1, 1330), (2, 2060), (3, 3010))
LONG_CURVE: Final[Curve] = ((0, 3570), (1, 4220), (2, 3000), (3, 3280))
ZERO_CURVE: Final[Curve] = ((0, 300), (3, 1050))
"""Mean completion tokens over hundreds of steps, as read from the repository's figure `exploration.png` (panel D)."""
MOST_LENGTHS: Final = 1 << 13
"""Completions of an engine that are counted one by one: those of the paper's whole step."""
LONG_LIMIT: Final = 8192
"""A first stage with a longer limit than this is the paper's Long."""
MOST_OF_LIMIT: Final = 0.45
"""Mean length by the limit, at most: what the paper's first stage (4,096 tokens) has on average."""

TEXT_TOKENS: Final = 150
"""Tokens of a problem's text with the chat template; an assumption."""
CHARACTERS: Final = 3.5
"""Characters of a token of text, where no tokenizer is at hand; an estimate for English with formulas."""
DIGITS: Final = (9, 9, 40)
"""Tokens of a picture, a text and a response of the demo's problems, as counted."""
PICTURE_PIXELS: Final = 400_000
"""Pixels of a problem's picture before the recipe's limits; an assumption."""
PIXELS_OF_TOKEN: Final = 28 * 28
"""Pixels behind an image token of Qwen2.5-VL."""
SFT_SAMPLES: Final = 260_994
"""Rows of the released cold-start data, both files."""
SFT_RESPONSE_TOKENS: Final = 900
"""Tokens of a cold-start response; an assumption."""
HELD_OUT: Final = 1000
"""Held-out problems, where nobody has counted them; an assumption."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What of the data time depends on.

    Attributes:
        prompt_tokens: mean, with its image tokens.
        image_tokens: of them, of pictures.
        sft_samples: rows of the data for SFT.
        sft_tokens: mean of a whole sample.
        held_out: problems of the evaluation.
        completion_tokens: mean in each stage.
    """

    prompt_tokens: float
    image_tokens: float
    sft_samples: int
    sft_tokens: float
    held_out: int
    completion_tokens: tuple[float, ...]

    def with_prompts(self, tokens: float, image: float) -> Sizes:
        """With other means of a prompt, and of its pictures' part."""
        return replace(self, prompt_tokens=tokens, image_tokens=image)

    def with_lengths(self, lengths: Sequence[float]) -> Sizes:
        """With other mean completion lengths; the last one given holds for all stages after it."""
        given = [lengths[min(index, len(lengths) - 1)] for index in range(len(self.completion_tokens))]
        return replace(self, completion_tokens=tuple(given))


def assumed_sizes(recipe: Recipe) -> Sizes:
    """Without a look at the data."""
    digits = recipe.data.train.path.startswith("demo://")
    picture = min(max(PICTURE_PIXELS, recipe.model.min_pixels), recipe.model.max_pixels) / PIXELS_OF_TOKEN
    image: float
    text: float
    image, text, response = DIGITS if digits else (picture, TEXT_TOKENS, SFT_RESPONSE_TOKENS)
    text += len(recipe.model.system_prompt or "") / CHARACTERS
    prompt = min(image + text, recipe.data.max_prompt_tokens)
    held_out = recipe.data.held_out
    bridged = recipe.coldstart and recipe.coldstart.problems.limit
    named = recipe.sft and recipe.sft.data and recipe.sft.data.limit
    cutoff = recipe.sft.cutoff_tokens if recipe.sft else prompt + response
    lengths = paper_lengths(recipe)
    return Sizes(
        prompt_tokens=prompt,
        image_tokens=min(image, prompt),
        sft_samples=named or bridged or SFT_SAMPLES,
        sft_tokens=min(prompt + response, MOST_OF_LIMIT * cutoff),
        held_out=(held_out.limit if held_out else None) or HELD_OUT,
        completion_tokens=tuple(min(length, response) for length in lengths) if digits else lengths,
    )


def paper_lengths(recipe: Recipe) -> tuple[float, ...]:
    """Mean completion tokens of each stage on the paper's curve of the same kind, at most MOST_OF_LIMIT of its limit."""
    limits = [stage.max_completion_tokens for stage in recipe.stages]
    curve = ZERO_CURVE if recipe.sft is None else LONG_CURVE if limits and limits[0] > LONG_LIMIT else PTST_CURVE
    if len(limits) == 1 and recipe.stages[0].steps > 100:  # Long and Zero: one stage is the whole curve
        return (min(_mean(curve, 0, recipe.stages[0].steps / 100), MOST_OF_LIMIT * limits[0]),)
    return tuple(min(_mean(curve, index, index + 1), MOST_OF_LIMIT * limit) for index, limit in enumerate(limits))


def _mean(curve: Curve, start: float, end: float, points: int = 64) -> float:
    places = [start + (end - start) * (point + 0.5) / points for point in range(points)]
    return sum(_at(curve, place) for place in places) / points


def _at(curve: Curve, place: float) -> float:
    """On the lines between the points; past the last one, its value."""
    for (x0, y0), (x1, y1) in zip(curve, curve[1:], strict=False):
        if place <= x1:
            return y0 + (y1 - y0) * (place - x0) / (x1 - x0)
    return curve[-1][1]


def part_of(count: float) -> tuple[int, float]:
    """How many of so many completions are counted one by one, and how many times as many there are.

    A recipe may ask for a billion, which would take all memory of the operator that plans it. All times grow with their number.
    """
    whole = max(1, round(count))
    shown = min(whole, MOST_LENGTHS)
    return shown, whole / shown


def spread(mean: float, limit: float, count: int) -> list[float]:
    """`count` lengths with this mean and the longest near the limit, shortest first.

    limit x q^a at the quantiles q, with a = limit / mean - 1: even at a mean of half the limit, more with a long tail the
    shorter the mean is. An assumption; real batches have such tails (in the paper 14 % of MathVerse's outputs pass 8,192 tokens).
    """
    power = max(limit / mean - 1, 1e-6)
    # Relative to the longest, so that a steep curve does not vanish; so few quantiles then miss the mean a little.
    raw = [((place + 0.5) / (count - 0.5)) ** power for place in range(count)]
    scale = mean * count / sum(raw)
    return [min(length * scale, limit) for length in raw]


def deviation(mean: float, limit: float) -> float:
    """Standard deviation of `spread`'s lengths."""
    power = max(limit / mean - 1, 1e-6)
    return math.sqrt(max(limit**2 / (2 * power + 1) - mean**2, 0.0))
