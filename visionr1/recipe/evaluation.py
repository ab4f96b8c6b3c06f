"""What an evaluation scores beside the held-out problems, who judges, and how endpoints are asked."""

from __future__ import annotations

from typing import Final, Literal, get_args

from pydantic import Field, model_validator

from visionr1.recipe.coldstart import Requests, Teacher
from visionr1.recipe.values import DEMO_TEACHER, MOST_TOKENS, Part, Temperature

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


class ServedModel(Teacher):
    """A model behind one or more OpenAI-compatible endpoints, and nowhere else."""

    @model_validator(mode="after")
    def _behind_an_endpoint(self) -> ServedModel:
        if self.workers is not None:
            raise ValueError("workers are for teachers of the cold start; serve the model, and give base_url or endpoints")
        if DEMO_TEACHER in [server.base_url for server in self.servers]:
            raise ValueError(f"{DEMO_TEACHER} writes chains of thought only: give the address of an OpenAI-compatible server")
        return self


class Judge(ServedModel):
    """A language model that reads and compares answers where a set's authors let one do so."""

    temperature: Temperature = Field(0.0, description="Sampling temperature. 0 always takes the most likely token.")
    max_tokens: int = Field(1024, ge=1, le=MOST_TOKENS, description="Longest reply in tokens.")


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
    requests: Requests = Field(Requests(), description="How a model or a judge behind an endpoint is asked.")
