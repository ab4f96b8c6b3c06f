"""A Qwen2.5-VL of 1.7 million parameters: transformers' own classes, small numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from visionr1.demo import tokenizer as tokens

if TYPE_CHECKING:
    from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor, Qwen2Tokenizer

MIN_PIXELS: Final = 28 * 28
MAX_PIXELS: Final = 16 * 28 * 28
INITIALIZER_RANGE: Final = 0.06
"""Wide for so narrow a model: with the large ones' 0.02 it needs twice the steps before it sees anything."""


def tiny_model(tokenizer: Qwen2Tokenizer, seed: int) -> Qwen2_5_VLForConditionalGeneration:
    """A model with random float32 weights for this tokenizer.

    Heads have 32 dimensions, because vLLM's CPU attention has no smaller ones. The head is not tied to
    the embeddings, as in the 7B model. The first vision layer attends within a digit (a window of 56
    pixels), the second over the picture.
    """
    import torch
    from transformers import GenerationConfig, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    def number(token: str) -> int:
        return cast(int, tokenizer.convert_tokens_to_ids(token))

    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 128,
            "intermediate_size": 344,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "initializer_range": INITIALIZER_RANGE,
            "max_position_embeddings": 2048,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [4, 6, 6]},
            "bos_token_id": None,
            "eos_token_id": number(tokens.END_OF_TURN),
            "pad_token_id": number(tokens.END_OF_TEXT),
        },
        vision_config={
            "depth": 2,
            "hidden_size": 128,
            "intermediate_size": 344,
            "num_heads": 4,
            "out_hidden_size": 128,
            "window_size": 56,
            "fullatt_block_indexes": [1],
            "initializer_range": INITIALIZER_RANGE,
        },
        image_token_id=number(tokens.IMAGE),
        video_token_id=number(tokens.VIDEO),
        vision_start_token_id=number(tokens.VISION_START),
        vision_end_token_id=number(tokens.VISION_END),
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        eos_token_id=[number(tokens.END_OF_TURN), number(tokens.END_OF_TEXT)], pad_token_id=number(tokens.END_OF_TEXT)
    )
    return model


def tiny_processor(tokenizer: Qwen2Tokenizer) -> Qwen2_5_VLProcessor:
    """Qwen2.5-VL's processor for pictures of 1 to 16 image tokens."""
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(min_pixels=MIN_PIXELS, max_pixels=MAX_PIXELS),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=tokens.CHAT_TEMPLATE,
    )


def save(model: Qwen2_5_VLForConditionalGeneration, processor: Qwen2_5_VLProcessor, folder: Path) -> None:
    """Write a whole Hugging Face directory: bfloat16 safetensors, configuration, tokenizer, processor, chat template."""
    model.bfloat16().save_pretrained(folder)
    processor.save_pretrained(folder)
