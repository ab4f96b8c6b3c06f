"""Where rows come from, as the recipe describes it."""

from __future__ import annotations

from pydantic import Field, model_validator

from visionr1.recipe.values import Part, Probability


class Columns(Part):
    """Where other projects' files have what is read; names with dots lead into a column (`reward_model.ground_truth`)."""

    problem: str | None = Field(None, description="The problem: text, or a list of messages with one from the user.")
    answer: str | None = Field(None, description="The true answer. Of a text with an answer block, what is in the block.")
    images: str | None = Field(None, description="An image, or a list of images.")
    options: str | None = Field(None, description="The texts of a multiple choice.")
    conversations: str | None = Field(None, description="Chains of thought: a list of two messages, problem and response.")
    response: str | None = Field(None, description="Chains of thought: the response, where it has a column of its own.")

    @model_validator(mode="after")
    def _one_column_each(self) -> Columns:
        fields: dict[str, str] = {}
        for field, name in self.model_dump(exclude_none=True).items():
            if not name:
                raise ValueError(f"{field} names no column")
            if name in fields:
                raise ValueError(f"{fields[name]} and {field} are both read from {name!r}: give each a column of its own")
            fields[name] = field
        if self.conversations and (self.problem or self.response):
            raise ValueError("conversations has problem and response in it: name either conversations, or problem and response")
        return self


class Difficulty(Part):
    """Which problems are used, by how often a reasoner solved them."""

    path: str = Field(description="difficulty.jsonl of a run's cold start over the same data file.")
    least: Probability = Field(0.0, description="Smallest share of right samples.")
    most: Probability = Field(1.0, description="Largest share of right samples.")


class Source(Part):
    """Where rows come from."""

    path: str = Field(
        description="A .parquet, .jsonl or .json file, a directory of them, s3://bucket/key, hf://owner/name[@split], "
        "or demo://digits/train|held-out."
    )
    image_root: str | None = Field(
        None, description="Directory that image paths are relative to. Default: the directory of the file."
    )
    limit: int | None = Field(None, ge=1, le=10**9, description="Use only this many rows, from the first.")
    columns: Columns | None = Field(
        None,
        description="Columns of a file that has other names, such as {problem: query, answer: label}. Fields that are not named "
        "keep their usual columns. Images of a problem without any <image> then come before its text.",
    )
    difficulty: Difficulty | None = Field(
        None, description="Use only problems that are as hard as this. Those that the cold start has not tried are left out."
    )
