"""What passed the data check can be built into prompts, and text never becomes a special token."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hostile import sample_rows, write_problems

from visionr1.data.check import check_problems, check_samples
from visionr1.data.readers import load_problems, load_samples, select
from visionr1.data.rows import Row
from visionr1.data.sampler import PromptSampler
from visionr1.errors import BadInput
from visionr1.model.chat import PromptBuilder
from visionr1.preflight.base import base_dir
from visionr1.preflight.tokenizer import VISION_TOKENS
from visionr1.recipe.schema import Model
from visionr1.recipe.source import Source

MODEL = Model(base="demo", dtype="float32", min_pixels=784, max_pixels=50176, gradient_checkpointing=False)
LIMITS: dict[str, Any] = {"min_pixels": MODEL.min_pixels, "max_pixels": MODEL.max_pixels}


@pytest.fixture(scope="module")
def builder() -> PromptBuilder:
    return PromptBuilder(base_dir(MODEL), MODEL)


@pytest.fixture(scope="module")
def hostile_set(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str | None]]:
    return write_problems(tmp_path_factory.mktemp("hostile"))


def special(builder: PromptBuilder, ids: list[int]) -> Counter[int]:
    tokens = {*builder.tokenizer.all_special_ids, *builder.banned_token_ids}
    return Counter(token for token in ids if token in tokens)


def test_every_row_that_passed_the_check_gets_a_prompt_with_the_template_s_special_tokens_only(
    builder: PromptBuilder, hostile_set: tuple[Path, list[str | None]]
) -> None:
    file, kinds = hostile_set
    rows = load_problems(Source(path=str(file)))
    report = check_problems(rows, **LIMITS, max_prompt_tokens=2000, count_prompt_tokens=builder.count_tokens)
    usable = select(rows, report.usable())
    assert len(usable) == kinds.count(None)
    sampler = PromptSampler(len(usable), 1, report.fingerprint)
    drawn = sampler.next(len(usable) + 3)
    assert set(drawn) == set(range(len(usable)))
    plain = special(builder, builder.build(Row("plain", "", (), "1")).token_ids)
    longest = 0
    for index in drawn:
        row = usable[index]
        prompt = builder.build(row)
        marks = Counter(builder._image_ids * len(row.images))
        assert special(builder, prompt.token_ids) == plain + marks, row.id
        assert len(prompt.images) == len(row.images)
        inputs = builder.image_inputs(prompt.images) if prompt.images else None
        expanded = builder.expand(prompt)
        features = int(inputs.grid_thw_I3.prod(-1).sum()) // 4 if inputs else 0
        assert expanded.count(builder.image_token_id) == features
        longest = max(longest, len(expanded))
    assert report.longest_prompt is not None and longest == report.longest_prompt.tokens <= 2000


def test_every_chain_of_thought_that_passed_the_check_gets_its_tokens(
    builder: PromptBuilder, hostile_set: tuple[Path, list[str | None]]
) -> None:
    folder = hostile_set[0].parent
    cases = sample_rows()
    file = folder.parent / "samples.jsonl"
    file.write_bytes(b"\n".join(row if isinstance(row, bytes) else json.dumps(row).encode() for row, _ in cases))
    samples = load_samples(Source(path=str(file), image_root=str(folder)))
    report = check_samples(samples, **LIMITS, cutoff_tokens=1024, count_tokens=builder.count_sample_tokens)
    assert report.good == [index for index, (_, kind) in enumerate(cases) if kind is None]
    for sample in select(samples, report.good):
        builder.build(Row(sample.id, sample.problem, sample.images, ""))
        ids = builder.response_ids(sample.response)
        assert special(builder, ids) == {builder.eos_token_ids[0]: 1}


def test_special_tokens_written_as_text_stay_text(builder: PromptBuilder) -> None:
    for token in {*builder.tokenizer.all_special_tokens, *VISION_TOKENS}:
        row = Row("x", f"a {token} b{token}{token} <{token[1:-1]}>", (), "1")
        ids = builder.build(row).token_ids
        assert special(builder, ids) == special(builder, builder.build(Row("x", "a", (), "1")).token_ids), token
        assert token in builder.tokenizer.decode(ids, skip_special_tokens=True)


def test_a_tokenizer_that_takes_text_for_a_special_token_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(base_dir(MODEL), folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        file = folder / name
        settings = json.loads(file.read_text())
        added = settings.get("added_tokens") or list(settings.get("added_tokens_decoder", {}).values())
        for token in added:
            token["special"] = token["special"] and token["content"] != "<|image_pad|>"
        settings.pop("extra_special_tokens", None)
        settings.pop("additional_special_tokens", None)
        settings.pop("image_token", None)
        file.write_text(json.dumps(settings))
    with pytest.raises(BadInput, match=r"makes a special token of the text <\|image_pad\|>"):
        PromptBuilder(folder, MODEL)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "processor_config.json", "generation_config.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"x": 1}', "\x00\xff"])
def test_a_damaged_model_directory_is_one_line(tmp_path: Path, name: str, content: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(base_dir(MODEL), folder)
    (folder / name).write_bytes(content.encode("latin-1"))
    try:
        PromptBuilder(folder, MODEL).build(Row("x", "?", (), "1"))
    except BadInput as error:
        assert str(error).startswith("model.base: ") and "\n" not in str(error)
