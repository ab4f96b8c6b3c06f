"""The teachers and the filters of the cold start, as the recipe describes them."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from visionr1.recipe.source import Source
from visionr1.recipe.values import KEYS_OF_PROVIDERS, MOST_TOKENS, Address, Part, Probability, Temperature


def _variable_for_keys(name: str | None) -> str | None:
    """A recipe must not be able to send any other secret of its pod to an endpoint."""
    if name is not None and name not in KEYS_OF_PROVIDERS and not re.fullmatch("VISIONR1_[A-Z0-9_]+", name):
        raise ValueError(
            f"{name[:60]!a} is not a variable for API keys: take one that begins with VISIONR1_, "
            f"such as VISIONR1_TEACHER_KEY, or one of {', '.join(sorted(KEYS_OF_PROVIDERS))}"
        )
    return name


TeacherName = Literal["describer", "reasoner"]
KeyVariable = Annotated[str | None, AfterValidator(_variable_for_keys)]


class Endpoint(Part):
    """One OpenAI-compatible server that answers as a teacher."""

    base_url: Address = Field(description="Address, such as http://localhost:8000/v1. Without a path, /v1 is added.")
    api_key_env: KeyVariable = Field(None, description="Name of the environment variable with this endpoint's API key.")
    weight: float = Field(1.0, gt=0, le=1e6, description="Share of the requests that this endpoint gets, beside the others.")
    requests_per_minute: float | None = Field(None, gt=0, le=1e12, description="Most requests per minute. null sets no limit.")
    tokens_per_minute: float | None = Field(
        None, gt=0, le=1e12, description="Most tokens per minute, of prompts and replies together. null sets no limit."
    )


class Requests(Part):
    """How a model behind endpoints is asked."""

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
        1800.0,
        gt=0,
        le=1e6,
        description="How long a reply may take to begin. Most servers send nothing before the whole reply is written.",
    )
    read_seconds: float = Field(60.0, gt=0, le=1e6, description="How long a reply that has begun may be silent.")
    total_seconds: float = Field(3600.0, gt=0, le=1e6, description="How long a reply may take in all.")


class TeacherWorkers(Part):
    """vLLM inside the job: Ray actors on this machine or on a cluster, each with one engine."""

    count: int = Field(1, ge=1, le=1024, description="Engines. Each answers requests by itself, with the whole model.")
    tensor_parallel: int = Field(1, ge=1, le=64, description="GPUs that share one engine. They are in one machine.")
    max_model_len: int | None = Field(
        None, ge=1, le=MOST_TOKENS, description="Longest prompt and reply together, in tokens. null takes the model's own."
    )
    max_sequences: int = Field(256, ge=1, le=100_000, description="Requests that one engine answers at the same time.")
    gpu_memory_utilization: float = Field(0.9, gt=0, lt=1, description="Share of the GPU memory that vLLM may use.")
    cpu_kv_cache_gib: float = Field(1.0, gt=0, le=100_000, description="KV cache of an engine on CPU, in GiB.")


class Teacher(Part):
    """One model behind one or more OpenAI-compatible endpoints, or in workers of the job itself."""

    base_url: Address | None = Field(
        None,
        description="Endpoint, such as http://localhost:8000/v1. Without a path, /v1 is added. `demo://teacher` is the scripted "
        "teacher of the demo.",
    )
    model: str = Field(description="Model name as the endpoints know it. With workers, a Hugging Face name, a folder, or `demo`.")
    api_key_env: KeyVariable = Field(
        None,
        description="Name of the environment variable with the API key: VISIONR1_ and more, or a provider's own, such as "
        "OPENAI_API_KEY. Never write the key itself into a recipe.",
    )
    endpoints: tuple[Endpoint, ...] = Field(
        (),
        max_length=1000,
        description="Several endpoints of the same model, or one with limits, instead of base_url and api_key_env.",
    )
    workers: TeacherWorkers | None = Field(
        None, description="vLLM inside the job instead of endpoints. `rollout.device` says whether on GPUs."
    )
    temperature: Temperature = Field(0.6, description="Sampling temperature (not published, advised for DeepSeek-R1).")
    max_tokens: int = Field(
        16_384, ge=1, le=MOST_TOKENS, description="Longest reply in tokens (not published, equal to sft.cutoff_tokens)."
    )
    prompt_price: float = Field(0.0, ge=0, le=1e6, description="Price of a million tokens of prompts.")
    reply_price: float = Field(0.0, ge=0, le=1e6, description="Price of a million tokens of replies.")

    @model_validator(mode="after")
    def _endpoints_named_once(self) -> Teacher:
        if sum((self.base_url is not None, bool(self.endpoints), self.workers is not None)) != 1:
            raise ValueError("give base_url, or endpoints with a base_url each, or workers")
        if self.base_url is None and self.api_key_env is not None:
            raise ValueError("api_key_env goes with base_url; give each of the endpoints its own")
        return self

    @property
    def servers(self) -> tuple[Endpoint, ...]:
        """The endpoints, whichever way they are written; none with workers."""
        if self.base_url is None:
            return self.endpoints
        return (Endpoint(base_url=self.base_url, api_key_env=self.api_key_env),)


Switchable = Literal[
    "description tells the answer",
    "refused",
    "image not seen",
    "answer was told",
    "speaks of the description",
    "wrong language",
    "repeats itself",
    "wrong answer",
    "contradicts itself",
]


class Filters(Part):
    """Which chains of thought become training data. The paper names no rules; these are ours."""

    off: tuple[Switchable, ...] = Field(
        (), max_length=20, description="Rules that are not applied. Without `wrong answer`, a wrong chain keeps its own answer."
    )
    min_words: int | None = Field(None, ge=1, le=MOST_TOKENS, description="A chain with fewer words is dropped (`too short`).")
    max_words: int | None = Field(None, ge=1, le=MOST_TOKENS, description="A chain with more words is dropped (`too long`).")
    most_repeated: Probability = Field(
        0.5,
        description="A chain of which more than this share of its runs of ten words come again is dropped (`repeats itself`).",
    )
    near_duplicates: Annotated[float, Field(ge=0.5, le=1.0)] | None = Field(
        None,
        description="A chain that shares this much of its runs of five words with one before it is dropped (`near duplicate`), "
        "as MinHash estimates it. null keeps all: chains about problems of one kind may well be alike.",
    )
    evaluation_sets: tuple[str, ...] = Field(
        (),
        max_length=100,
        description="Problems that a model will be scored on, by paths as in `data.train.path`. A problem with the same "
        "picture and a similar question, or with thirteen words in a row of one of theirs, is dropped (`in an evaluation set`).",
    )


class ColdStart(Requests):
    """Modality bridging (section 3.3.1): pseudo-CoT, description, text-only reasoning, filter."""

    problems: Source = Field(description="Problems with images and answers. The teachers write a chain of thought for each.")
    describer: Teacher = Field(
        Teacher(base_url="http://localhost:8000/v1", model="Qwen/Qwen2.5-VL-72B-Instruct"),
        description="The multimodal model of steps 1 and 2.",
    )
    reasoner: Teacher = Field(
        Teacher(base_url="http://localhost:8001/v1", model="deepseek-ai/DeepSeek-R1"),
        description="The text-only reasoner of step 3.",
    )
    give_answer_to_reasoner: bool = Field(
        True,
        description="Put the true answer into the reasoner's prompt, as the authors do. false makes the answer filter stronger.",
    )
    pseudo_cot: bool = Field(
        True,
        description="Ask for a pseudo-CoT before the description, as the authors do. false is the paper's ablation (figure 5).",
    )
    control: Literal["none", "text", "anchored"] = Field(
        "none",
        description="`text`: the describer gets no picture, which shows what the picture is good for (not published). "
        "`anchored`: the  description must say where things are.",
    )
    prompts_dir: str | None = Field(
        None,
        description="Directory with your own prompts: pseudo_cot.txt, description.txt, description_alone.txt, anchored.txt, "
        "reasoning.txt.",
    )
    samples: int = Field(1, ge=1, le=256, description="Chains of thought per problem. At most one of them is kept.")
    choose: Literal["first", "shortest", "longest"] = Field("first", description="Which of a problem's good chains is kept.")
    keep_wrong: bool = Field(False, description="Also write the chains that are dropped, with the reason, for preference data.")
    filters: Filters = Filters()

    @property
    def in_job(self) -> dict[TeacherName, tuple[str, TeacherWorkers]]:
        """The teachers that are vLLM inside the job, by name: the model, and its workers."""
        teachers: dict[TeacherName, Teacher] = {"describer": self.describer, "reasoner": self.reasoner}
        return {name: (one.model, one.workers) for name, one in teachers.items() if one.workers is not None}
