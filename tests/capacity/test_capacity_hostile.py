"""A model's config.json is a stranger's, and the operator reads it: no file there may stop it or take its memory."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from visionr1.capacity.model import DEMO_BASE, find_model_sizes, read_model_sizes
from visionr1.errors import BadInput
from visionr1.recipe.schema import Model

CONFIG: dict[str, Any] = json.loads((DEMO_BASE / "config.json").read_text())
TEXT = CONFIG.get("text_config", CONFIG)


def with_text(**values: Any) -> dict[str, Any]:
    text = TEXT | values
    return CONFIG | {"text_config": text} if "text_config" in CONFIG else text


def with_vision(**values: Any) -> dict[str, Any]:
    return CONFIG | {"vision_config": CONFIG["vision_config"] | values}


@pytest.mark.parametrize(
    "config",
    [
        with_text(num_hidden_layers=10**9),
        with_vision(depth=10**9),
        with_vision(fullatt_block_indexes=[0] * 5000),
        with_text(hidden_size=10**300),
        with_text(vocab_size=-1),
        with_text(hidden_size=1 << 24, intermediate_size=1 << 24),
        with_text(vocab_size="many"),
        with_text(num_hidden_layers=1.5),
        with_text(num_hidden_layers=0),
        with_text(hidden_size=0),
        with_text(num_attention_heads=1 << 20),
        with_vision(patch_size=0),
        with_text(num_hidden_layers=True),
    ],
    ids=lambda config: "",
)
def test_sizes_that_no_model_has_are_refused(config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadInput, match="is not the config.json of a Qwen2.5-VL: ") as caught:
        read_model_sizes(tmp_path)
    assert len(str(caught.value)) < 500 and "\n" not in str(caught.value)


def test_a_pipe_a_folder_or_a_huge_file_is_refused_at_once(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    os.mkfifo(file)
    with pytest.raises(BadInput, match="config.json"):
        read_model_sizes(tmp_path)
    file.unlink()
    file.mkdir()
    with pytest.raises(BadInput, match="is not the config.json of a Qwen2.5-VL: IsADirectoryError"):
        read_model_sizes(tmp_path)
    file.rmdir()
    with file.open("wb") as sparse:
        sparse.truncate(1 << 40)
    with pytest.raises(BadInput, match="is not the config.json of a Qwen2.5-VL: JSONDecodeError"):
        read_model_sizes(tmp_path)


@pytest.mark.parametrize("base", ["a" * 5000, "\0", "owner/" + "a" * 300])
def test_a_name_that_no_file_can_have_is_not_known(base: str) -> None:
    with pytest.raises(BadInput, match="are not known here"):
        find_model_sizes(Model(base=base))


@pytest.mark.parametrize("revision", ["../x", "/etc", "a/../b", "a//b", "**", "-x", "a b", ""])
def test_a_revision_is_no_path(revision: str) -> None:
    with pytest.raises(ValueError, match="revision"):
        Model(base="owner/name", revision=revision)
    assert Model(base="owner/name", revision="refs/pr/1").revision == "refs/pr/1"
