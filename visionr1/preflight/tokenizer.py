"""Does a tokenizer fit its model?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from visionr1.errors import BadInput
from visionr1.preflight.base import read_json

VISION_TOKENS: Final = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")
_NEEDED: Final = {"<|vision_start|>": "vision_start_token_id", "<|vision_end|>": None, "<|image_pad|>": "image_token_id"}
"""Tokens that stand round pictures, with the keys under which a config.json has their ids."""


def check_tokenizer(directory: Path, vocabulary: Mapping[str, int], config: Mapping[str, Any]) -> None:
    """Sees that each id of a tokenizer has its row in the embedding, and that both mean the same tokens by pictures.

    Args:
        vocabulary: all tokens, added ones included.
        config: the model's config.json.

    Raises:
        BadInput: the tokenizer is that of another model.
    """
    rows = embedding_rows(config)
    whose = f"model.base: the tokenizer in {directory}"
    advice = "copy the tokenizer of this very model"
    largest = max(vocabulary.values(), default=-1)
    if largest >= rows:
        raise BadInput(f"{whose} has ids up to {largest}, and the model's embedding only {rows} rows: {advice}")
    for token, key in _NEEDED.items():
        if token not in vocabulary:
            raise BadInput(f"{whose} has no token {token}, which stands where a picture is: {advice}")
        meant = vocabulary[token] if key is None else config.get(key, vocabulary[token])
        if meant != vocabulary[token]:
            raise BadInput(f"{whose} has the id {vocabulary[token]} for {token}, and config.json has {meant}: {advice}")


def embedding_rows(config: Mapping[str, Any]) -> int:
    """Rows of the embedding: the ids that the model can be asked about and can sample."""
    return int(config.get("text_config", config)["vocab_size"])


def ids_without_text(vocabulary: Mapping[str, int], config: Mapping[str, Any]) -> list[int]:
    """Ids that the model can sample and the tokenizer does not know; published models have a few hundred, as padding."""
    known = set(vocabulary.values())
    return [token for token in range(embedding_rows(config)) if token not in known]


def read_vocabulary(directory: Path) -> dict[str, int] | None:
    """All tokens of a tokenizer.json, added ones included; None where a model has no such file.

    Raises:
        BadInput: the file is damaged.
    """
    if not (directory / "tokenizer.json").is_file():
        return None
    tokenizer = read_json(directory, "tokenizer.json")
    try:
        added = {str(entry["content"]): int(entry["id"]) for entry in tokenizer.get("added_tokens", [])}
        return {str(token): int(number) for token, number in tokenizer["model"]["vocab"].items()} | added
    except (KeyError, TypeError, ValueError, AttributeError):
        raise BadInput(f"model.base: {directory / 'tokenizer.json'} holds no vocabulary: copy or download it again") from None
