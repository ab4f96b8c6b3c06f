"""What an evaluation scores beside the held-out problems, who judges, and how endpoints are asked."""

from __future__ import annotations

from typing import Final, Literal, get_args

from pydantic import Field

from visionr1.recipe.coldstart import Teacher
from visionr1.recipe.values import MOST_TOKENS, Part, Temperature

BenchmarkName = Literal["mathvista", "mathverse", "mm-math", "mathvision", "dynamath", "we-math"]
BENCHMARK_NAMES: Final[tuple[str, ...]] = get_args(BenchmarkName)


class BenchmarkSource(Part):
    """One published set that models are scored on."""

    name: BenchmarkName = Field(description="The set. docs/benchmarks.md lists them, with their files and rules.")
    path: str | None = Field(None, description="Its file or directory, as in `data.train.path`. null takes the Hub.")
    image_root: str | None = Field(
        None, description="Directory that image paths are relative to. Default: the directory of the file."
    )
    limit: int | None = Field(None, ge=1, le=10**9, description="Use only this many problems, from the first.")


class Judge(Teacher):
    """A language model that reads and compares answers where a set's authors let one do so."""

    temperature: Temperature = Field(0.0, description="Sampling temperature. 0 always takes the most likely token.")
    max_tokens: int = Field(1024, ge=1, le=MOST_TOKENS, description="Longest reply in tokens.")


class Requests(Part):
    """How a model or a judge behind an endpoint is asked."""

    concurrency: int = Field(64, ge=1, le=10_000, description="Requests that are open at the same time.")
    retries: int = Field(
        4,
        ge=0,
        le=1000,
        description="How many times a request is sent again after an error of the server or a damaged or missing reply.",
    )
    patience_seconds: float = Field(
        600.0, ge=0, le=1e6, description="How long to wait for an endpoint that is not there, busy or over its rate limit."
    )
    first_byte_seconds: float = Field(
        3600.0,
        gt=0,
        le=1e6,
        description="How long a reply may take to begin. Most servers send nothing before the whole reply is written.",
    )
    read_seconds: float = Field(60.0, gt=0, le=1e6, description="How long a reply that has begun may be silent.")
    total_seconds: float = Field(3600.0, gt=0, le=1e6, description="How long a reply may take in all.")


class Evaluation(Part):
    """Scoring on held-out problems. The sampling values are the authors' (run_all.py)."""

    temperature: Temperature = Field(0.6, description="Sampling temperature. 0 always takes the most likely token.")
    top_p: float = Field(0.95, gt=0, le=1, description="Nucleus sampling.")
    max_completion_tokens: int = Field(16_000, ge=1, le=MOST_TOKENS, description="Length limit in tokens.")
    samples: int = Field(1, ge=1, le=10_000, description="Completions per problem. The accuracy is their mean (pass@1).")
    workers: int = Field(
        1,
        ge=1,
        le=1024,
        description="Engines that share out the problems. More than one are Ray actors, each with as many GPUs as the last "
        "stage's tensor_parallel; they must see the same directories.",
    )
    benchmarks: tuple[BenchmarkSource, ...] = Field(
        (), max_length=100, description="Published sets that every stage is scored on, too."
    )
    judge: Judge | None = Field(None, description="Judge for the sets that want one. null leaves it to rules.")
    drop_seen: bool = Field(False, description="Leave out a benchmark's problems that are in the run's training data.")
    requests: Requests = Requests()
