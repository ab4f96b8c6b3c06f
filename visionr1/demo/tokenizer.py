"""The demo's tokenizer: Qwen2's own kind (byte-level BPE, every digit alone) with few words in it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from transformers import Qwen2Tokenizer

END_OF_TEXT: Final = "<|endoftext|>"
END_OF_TURN: Final = "<|im_end|>"
IMAGE: Final = "<|image_pad|>"
VIDEO: Final = "<|video_pad|>"
VISION_START: Final = "<|vision_start|>"
VISION_END: Final = "<|vision_end|>"
SPECIAL: Final = ["<|im_start|>", END_OF_TURN, VISION_START, VISION_END, "<|vision_pad|>", IMAGE, VIDEO]

TAGS: Final = ["<think>", "</think>", "<answer>", "</answer>"]
"""One token each, but not special: decoding keeps them, because the reward reads them."""

VOCABULARY: Final = 512
"""Most tokens that the tokenizer may have."""

CHAT_TEMPLATE: Final = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Qwen2.5-VL's turns without its default system prompt, which would double the length of the demo's prompts."""


def train_tokenizer(texts: Iterable[str]) -> Qwen2Tokenizer:
    """Learn the tokens: 256 bytes, the special ones, the tags, and the merges that the texts ask for."""
    from tokenizers import AddedToken
    from transformers import Qwen2Tokenizer

    untrained = Qwen2Tokenizer(eos_token=END_OF_TURN, pad_token=END_OF_TEXT)
    tokenizer = untrained.train_new_from_iterator(texts, VOCABULARY - len(TAGS), new_special_tokens=SPECIAL, show_progress=False)
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TAGS])
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
