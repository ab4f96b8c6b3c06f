"""A tokenizer that does not fit its model is refused, and ids without text are banned from sampling."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from visionr1.capacity.model import DEMO_BASE
from visionr1.errors import BadInput
from visionr1.model.chat import PromptBuilder
from visionr1.preflight.base import read_config
from visionr1.preflight.tokenizer import check_tokenizer, embedding_rows, ids_without_text, read_vocabulary
from visionr1.recipe.schema import Model


def change(file: Path, how: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(file.read_text())
    how(content)
    file.write_text(json.dumps(content))


def refused_by_both(folder: Path) -> str:
    """The line of the preflight, which reads the file, and of the builder, which loads it."""
    vocabulary = read_vocabulary(folder)
    assert vocabulary is not None
    with pytest.raises(BadInput) as before:
        check_tokenizer(folder, vocabulary, read_config(folder))
    with pytest.raises(BadInput) as later:
        PromptBuilder(folder, Model(base="demo"))
    assert str(before.value) == str(later.value)
    return str(before.value)


def test_the_file_has_the_vocabulary_that_the_library_reads() -> None:
    assert read_vocabulary(DEMO_BASE) == PromptBuilder(DEMO_BASE, Model(base="demo")).tokenizer.get_vocab()


def test_a_tokenizer_that_is_larger_than_the_embedding(base: Path) -> None:
    change(base / "config.json", lambda config: config["text_config"].update(vocab_size=400))
    assert "has ids up to 452, and the model's embedding only 400 rows" in refused_by_both(base)


def test_a_tokenizer_with_other_ids_for_pictures(base: Path) -> None:
    change(base / "config.json", lambda config: config.update(image_token_id=9))
    assert "has the id 6 for <|image_pad|>, and config.json has 9" in refused_by_both(base)


def test_a_tokenizer_without_tokens_for_pictures(base: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "processor_config.json"):
        (base / name).write_text((base / name).read_text().replace("<|vision_end|>", "<|other|>"))
    vocabulary = read_vocabulary(base)
    assert vocabulary is not None
    with pytest.raises(BadInput, match=r"has no token <\|vision_end\|>"):
        check_tokenizer(base, vocabulary, read_config(base))


def test_ids_without_text_are_banned(base: Path) -> None:
    rows = embedding_rows(read_config(base))
    change(base / "config.json", lambda config: config["text_config"].update(vocab_size=rows + 3))
    assert set(PromptBuilder(base, Model(base="demo")).banned_token_ids) >= {rows, rows + 1, rows + 2}
    assert ids_without_text({"a": 0, "b": 2}, {"vocab_size": 4}) == [1, 3]


def test_a_damaged_file_and_none_at_all(base: Path) -> None:
    (base / "tokenizer.json").write_text("{}")
    with pytest.raises(BadInput, match="holds no vocabulary"):
        read_vocabulary(base)
    (base / "tokenizer.json").unlink()
    assert read_vocabulary(base) is None
