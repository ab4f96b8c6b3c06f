"""Answers held-out problems with one model and grades the answers."""

from __future__ import annotations

import base64
import hashlib
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from visionr1.data.check import BadRowNote, check_problems
from visionr1.data.images import open_image
from visionr1.data.kept import Kept
from visionr1.data.readers import load_problems, select
from visionr1.data.rows import Row
from visionr1.errors import Stopped
from visionr1.evaluate.scoring import Outcome, Score, evenly_spaced, score
from visionr1.model.prompt import Prompt
from visionr1.progress import progress
from visionr1.recipe import Recipe
from visionr1.recipe.source import Source
from visionr1.reward import Grade, Grader
from visionr1.rollout.types import Completion, Group, Sampling
from visionr1.rundir.scores import Sample

SHOWN: Final = 24
"""How many problems keep their pictures with their samples. The report shows them."""
_THUMBNAIL: Final = 192
_ROUNDS: Final = 4
"""Times that the engine's sequences are filled by one call: more keeps it busier, fewer shows progress sooner."""


class Builder(Protocol):
    """What evaluation needs of `visionr1.model.chat.PromptBuilder`."""

    def build(self, row: Row) -> Prompt:
        """The prompt of a problem. Raises BadImage for a picture that cannot be used."""

    def count_tokens(self, row: Row) -> int:
        """Tokens of that prompt, its image tokens included."""


class EvaluationEngine(Protocol):
    """What evaluation needs of `visionr1.rollout.types.RolloutEngine`."""

    def generate(self, prompts: list[Prompt], sampling: Sampling, seeds: list[int]) -> list[Group]:
        """One group per prompt, in order; `seeds` holds one seed per prompt."""

    def load(self, model_dir: Path) -> None:
        """Takes over the weights of another directory of the same model."""


@dataclass(frozen=True)
class HeldOut:
    """The problems of a source that can be used, and notes on the others; `fingerprint` is of the former."""

    rows: Sequence[Row]
    skipped: list[BadRowNote]
    fingerprint: str


@dataclass(frozen=True)
class EvaluatedModel:
    """One model's score with what it is of. `samples` are in the order of the problems."""

    score: Score
    samples: list[Sample]
    seconds: float


def load_held_out(source: Source, recipe: Recipe, builder: Builder, kept: Kept | None = None) -> HeldOut:
    """Reads and checks every problem of a source once, with a progress bar, unless `kept` has the result for unchanged files.

    Raises:
        BadInput: the source cannot be read, or none of its rows can be used.
    """
    rows = load_problems(source)
    report = check_problems(
        rows,
        min_pixels=recipe.model.min_pixels,
        max_pixels=recipe.model.max_pixels,
        max_prompt_tokens=recipe.data.max_prompt_tokens,
        count_prompt_tokens=builder.count_tokens,
        kept=kept,
    )
    return HeldOut(select(rows, report.usable()), report.bad, report.fingerprint)


def evaluate_problems(
    engine: EvaluationEngine,
    builder: Builder,
    grader: Grader,
    rows: Sequence[Row],
    recipe: Recipe,
    title: str,
    should_stop: Callable[[], bool] = lambda: False,
) -> EvaluatedModel:
    """Samples `recipe.evaluation.samples` responses to each of `rows` (sound ones, at least one) and grades them.

    With vLLM a response depends on the model, the recipe's seed and the row, not on other rows or their order.

    Args:
        title: names the model in the progress display.

    Raises:
        Stopped: `should_stop` was true between two rounds of responses.
    """
    begun = time.perf_counter()
    wanted = recipe.evaluation
    sampling = Sampling(wanted.samples, wanted.max_completion_tokens, wanted.temperature, wanted.top_p)
    size = max(1, _ROUNDS * recipe.rollout.max_sequences // wanted.samples)
    shown = evenly_spaced(len(rows), SHOWN)
    samples: list[Sample] = []
    with progress(f"evaluating {title}", len(rows)) as advance:
        for start in range(0, len(rows), size):
            if should_stop():
                raise Stopped(f"stopped while evaluating {title}; earlier scores are kept")
            batch = rows[start : start + size]
            seeds = [problem_seed(recipe.seed, row.id) for row in batch]
            groups = engine.generate([builder.build(row) for row in batch], sampling, seeds)
            texts = [completion.text for group in groups for completion in group.completions]
            asked = [row for row in batch for _ in range(wanted.samples)]
            grades = iter(grader.grade(texts, [row.answer for row in asked], options=[row.options for row in asked]))
            for place, (row, group) in enumerate(zip(batch, groups, strict=True), start):
                thumbnails = [thumbnail(data) for data in row.images] if place in shown else []
                for number, completion in enumerate(group.completions):
                    samples.append(record(row, number, completion, next(grades), [] if number else thumbnails))
            advance(len(batch))
    return EvaluatedModel(score([outcome(sample) for sample in samples]), samples, time.perf_counter() - begun)


def problem_seed(seed: int, row_id: str) -> int:
    """A sampling seed in [0, 2^31) from the recipe's seed and the row's id."""
    digest = hashlib.sha256(f"evaluate {seed} {row_id}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def thumbnail(data: bytes) -> str:
    """A picture as a small PNG in base64, at most 192 pixels a side."""
    image = open_image(data)
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    png = io.BytesIO()
    image.quantize(64).save(png, "PNG", optimize=True)
    return base64.b64encode(png.getvalue()).decode()


def record(row: Row, number: int, completion: Completion, grade: Grade, thumbnails: list[str]) -> Sample:
    """One scored response."""
    return Sample(
        id=row.id,
        sample=number,
        problem=row.problem,
        images=tuple(thumbnails),
        response=completion.text,
        tokens=len(completion.token_ids),
        finish_reason=completion.finish_reason,
        overall=grade.overall,
        format=grade.format,
        accuracy=grade.accuracy,
        answer=grade.answer,
        reason=grade.reason,
        truth=row.answer,
    )


def outcome(sample: Sample) -> Outcome:
    """What of a response goes into the score."""
    return Outcome(sample.id, sample.accuracy, sample.tokens, sample.finish_reason == "length")
