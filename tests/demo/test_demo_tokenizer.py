"""The demo's tokenizer, as it ships with the base model."""

from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from visionr1.capacity.model import DEMO_BASE
from visionr1.demo import chains, tokenizer


@pytest.fixture(scope="module")
def shipped() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(DEMO_BASE)


def test_the_shipped_tokenizer_is_the_one_that_the_code_makes(shipped: PreTrainedTokenizerBase) -> None:
    made = tokenizer.train_tokenizer(chains.corpus())
    assert made.get_vocab() == shipped.get_vocab()
    assert made.chat_template == shipped.chat_template
    assert len(shipped) <= tokenizer.VOCABULARY


@pytest.mark.parametrize("text", ["<think> Left 3. Right 15. </think><answer> Final Answer:8 </answer>", "Zürich 数字 🙂\n\t¿?"])
def test_every_text_comes_back(shipped: PreTrainedTokenizerBase, text: str) -> None:
    assert shipped.decode(shipped(text).input_ids, skip_special_tokens=True) == text


def test_digits_and_tags_are_single_tokens(shipped: PreTrainedTokenizerBase) -> None:
    assert shipped.tokenize("27=") == ["2", "7", "="]
    for token in [*tokenizer.TAGS, *tokenizer.SPECIAL, tokenizer.END_OF_TEXT]:
        assert shipped.tokenize(token) == [token]


def test_special_tokens_vanish_in_decoding_and_tags_do_not(shipped: PreTrainedTokenizerBase) -> None:
    ids = shipped("<think> a </think><answer> b </answer><|im_end|>").input_ids
    assert ids[-1] == shipped.eos_token_id
    assert shipped.decode(ids, skip_special_tokens=True) == "<think> a </think><answer> b </answer>"


def test_the_chat_template_has_qwens_turns(shipped: PreTrainedTokenizerBase) -> None:
    turn: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}]
    system: dict[str, Any] = {"role": "system", "content": "Think."}
    vision = "<|vision_start|><|image_pad|><|vision_end|>"
    user = f"<|im_start|>user\n{vision}What is it?<|im_end|>\n"
    assert shipped.apply_chat_template(turn, tokenize=False) == user
    assert shipped.apply_chat_template([system, *turn], tokenize=False, add_generation_prompt=True) == (
        f"<|im_start|>system\nThink.<|im_end|>\n{user}<|im_start|>assistant\n"
    )
