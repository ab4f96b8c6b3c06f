"""The shipped base model: a whole Hugging Face directory that reads digits."""

import io
from typing import Any, cast

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from visionr1.capacity.model import DEMO_BASE
from visionr1.data import digits
from visionr1.demo import base, chains


@pytest.fixture(scope="module")
def model() -> Qwen2_5_VLForConditionalGeneration:
    loaded = AutoModelForImageTextToText.from_pretrained(DEMO_BASE, dtype=torch.float32)
    assert isinstance(loaded, Qwen2_5_VLForConditionalGeneration)
    return loaded


@pytest.fixture(scope="module")
def processor() -> Qwen2_5_VLProcessor:
    return AutoProcessor.from_pretrained(DEMO_BASE)


def test_the_directory_is_small_and_in_bfloat16() -> None:
    files = {file.name: file.stat().st_size for file in DEMO_BASE.iterdir()}
    assert sum(files.values()) < 4 * 2**20
    assert AutoModelForImageTextToText.from_pretrained(DEMO_BASE).dtype == torch.bfloat16


def test_it_is_a_qwen2_5_vl_that_vllm_can_take(model: Qwen2_5_VLForConditionalGeneration, processor: Qwen2_5_VLProcessor) -> None:
    assert isinstance(processor, Qwen2_5_VLProcessor)
    text: Any = model.config.text_config
    assert (text.hidden_size // text.num_attention_heads, model.config.tie_word_embeddings) == (32, False)
    assert text.vocab_size == len(processor.tokenizer)
    assert processor.tokenizer.eos_token_id in model.generation_config.eos_token_id
    assert model.config.image_token_id == processor.image_token_id


def test_a_digit_costs_four_image_tokens(processor: Qwen2_5_VLProcessor) -> None:
    picture = digits.draw(digits.scans("held-out")[0][:3])
    ids = processor(text="<|image_pad|>", images=picture).input_ids[0]
    assert ids.count(processor.image_token_id) == 12


def test_it_reads_held_out_pictures_aloud(model: Qwen2_5_VLForConditionalGeneration, processor: Qwen2_5_VLProcessor) -> None:
    ink_N88, label_N = digits.scans("held-out")
    pictures = [digits.draw(ink_N88[2 * index : 2 * index + 2]) for index in range(64)]
    turn: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": chains.READ_ALOUD}]}]
    prompt = processor.apply_chat_template(turn, add_generation_prompt=True)
    inputs = processor(text=[prompt] * len(pictures), images=pictures, return_tensors="pt")
    with torch.no_grad():
        ids_BT = cast(Any, model).generate(**inputs, max_new_tokens=16, do_sample=False)  # typed for another class than its own
    texts = processor.batch_decode(ids_BT[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    left = sum(text.startswith(f"Left {label_N[2 * index]}. Right ") for index, text in enumerate(texts))
    assert left >= 0.9 * len(pictures)


def test_reading_accuracy_counts_digits_only(model: Qwen2_5_VLForConditionalGeneration, processor: Qwen2_5_VLProcessor) -> None:
    ink_N88, label_N = digits.scans("held-out")
    batch = base.captions(processor, ink_N88[:6].reshape(3, 2, 8, 8), label_N[:6].reshape(3, 2))
    assert batch.digit_mask_BT.sum(1).tolist() == [2, 2, 2]
    assert base.reading_accuracy(model, processor, pictures=100) >= 0.9


def test_the_learning_rate_rises_and_falls() -> None:
    factors = [base.learning_rate_factor(step, 200) for step in range(201)]
    assert max(factors) == 1.0
    assert factors[:50] == sorted(factors[:50])
    assert factors[50:] == sorted(factors[50:], reverse=True)
    assert factors[200] == pytest.approx(0)


def test_pictures_of_a_batch_match_their_captions(processor: Qwen2_5_VLProcessor) -> None:
    ink_N88, label_N = digits.scans("train")
    batch = base.captions(processor, ink_N88[None, :3], label_N[None, :3])
    spoken = processor.tokenizer.decode(batch.labels_BT[batch.labels_BT >= 0], skip_special_tokens=True)
    assert spoken == digits.caption(label_N[:3].tolist())
    assert Image.open(io.BytesIO(digits.problems("train")[0].images[0])).mode == "RGB"
