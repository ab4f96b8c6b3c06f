"""benchmarks/: scores on published sets. Those of other files, rules, judges, prompts or settings are never in one folder.

A folder is named by its set and a hash of its conditions, `mathvista-5f2c0a1b9d3e`; it has a score and the replies of each model.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, TypeAdapter

from visionr1.rundir.layout import BENCHMARKS, benchmark_key, benchmark_samples_key
from visionr1.rundir.reading import Count, Finite, Number, Step, read_json
from visionr1.storage import NotFound, Store

_MOST_BYTES: Final = 16 << 20
"""Of a score with the names of many problems that were seen in training."""


class JudgeConditions(BaseModel):
    """The judge of a score: its name at its server, a hash of its prompts, its sampling."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    model: str
    prompts: str
    temperature: Finite
    max_tokens: Count


class Conditions(BaseModel):
    """All that scores which are compared must have in common, but for the model.

    Attributes:
        title: of the set; `split` is the file's or folder's name, or the splits on the Hub, `limit` how many rows of it.
        fingerprint: of the problems that are scored, wherever their files lie.
        rule, strict_rule: the set's and ours, with their versions.
        judge: None if the score is by a rule alone.
        prompt: a hash of the template that problems are asked with.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    title: str
    split: str
    limit: Count | None
    fingerprint: str
    rule: str
    strict_rule: str
    judge: JudgeConditions | None
    prompt: str
    system_prompt: str | None
    temperature: Finite
    top_p: Finite
    max_completion_tokens: Count
    min_pixels: Count
    max_pixels: Count
    samples: Count
    seed: int


class BenchmarkScore(BaseModel):
    """The score of one model on one set.

    Attributes:
        scored: the phase, or the model.
        step: global step of the checkpoint; 0 for a model without a run.
        made_with: versions of the program and the engine, or the address of the endpoint.
        accuracy: by the set's rule or judge, in [0, 1]; `labelled` says which.
        standard_error: over problems; `standard_error_of_seeds` over the means of the seeds.
        strict_accuracy: by the comparer of the reward.
        figures: the set's other numbers, in [0, 1].
        unanswered, unjudged: replies that no endpoint or judge gave; they count as wrong.
        seen: problems that are in the training data; `dropped` of them are not in the score.
        skipped: damaged rows.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    benchmark: str
    scored: str
    step: Step
    conditions: Conditions
    made_with: dict[str, Any]
    labelled: str
    accuracy: Finite
    standard_error: Number = None
    standard_error_of_seeds: Number = None
    strict_accuracy: Finite
    strict_standard_error: Number = None
    figures: dict[str, Finite]
    problems: Count
    expected_problems: tuple[Count, ...]
    samples: Count
    completion_tokens_mean: Finite
    truncated_ratio: Finite
    prompt_tokens: Count
    completion_tokens: Count
    judge_tokens: Count
    seconds: Finite
    unanswered: Count
    unjudged: Count
    seen: list[str]
    dropped: Count
    skipped: list[str]


class BenchmarkSample(BaseModel):
    """One scored reply: `answer` as the set's rule or judge read it, `right` by it, `strict` by the comparer of the reward."""

    model_config = ConfigDict(frozen=True, strict=True)

    id: str
    sample: Count
    response: str
    tokens: Count
    finish_reason: str
    answer: str
    right: bool
    strict: bool
    truth: str


_SCORE: Final = TypeAdapter(BenchmarkScore)


def conditions_id(benchmark: str, conditions: Conditions) -> str:
    """The folder of scores with these conditions."""
    return f"{benchmark}-{hashlib.sha256(conditions.model_dump_json().encode()).hexdigest()[:12]}"


def write_benchmark(store: Store, score: BenchmarkScore, samples: Iterable[BenchmarkSample]) -> None:
    """Writes the replies and then the score, so that a score is there only with them."""
    folder, name = conditions_id(score.benchmark, score.conditions), folder_name(score.scored)
    lines = "".join(sample.model_dump_json() + "\n" for sample in samples)
    store.write_bytes(benchmark_samples_key(folder, name), lines.encode())
    store.write_bytes(benchmark_key(folder, name), (score.model_dump_json(indent=2) + "\n").encode())


def read_benchmark(store: Store, benchmark: str, conditions: Conditions, scored: str) -> BenchmarkScore | None:
    """The score of a phase or model under these conditions; None while there is none. Raises BadInput for a damaged one."""
    try:
        return _read(store, benchmark_key(conditions_id(benchmark, conditions), folder_name(scored)))
    except NotFound:
        return None


def read_benchmarks(store: Store) -> list[BenchmarkScore]:
    """Every score in a folder. Raises BadInput for a damaged one."""
    return [_read(store, key) for key in store.list(BENCHMARKS) if key.endswith(".json")]


def _read(store: Store, key: str) -> BenchmarkScore:
    return read_json(store, key, _SCORE, "not a benchmark's score; delete it to have it made again", _MOST_BYTES)


def folder_name(scored: str) -> str:
    """A name for files and folders: a model's path without its slashes, and part of its hash if that changes it."""
    plain = re.sub(r"[^\w.-]+", "-", scored, flags=re.ASCII).strip("-.")[-80:] or "model"
    return plain if plain == scored else f"{plain}-{hashlib.sha256(scored.encode()).hexdigest()[:8]}"
