"""From a row to token ids: chat template, image places, and what the sampler must never emit."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from visionr1.data.images import fit, open_image
from visionr1.data.rows import IMAGE_MARK, Row, Sample
from visionr1.errors import BadInput
from visionr1.model.load import load_processor
from visionr1.model.prompt import Prompt
from visionr1.model.trial import try_tokenizer, written_prompt
from visionr1.preflight.base import read_config
from visionr1.preflight.tokenizer import VISION_TOKENS, check_tokenizer, ids_without_text
from visionr1.recipe.schema import Model

_PROBLEM_PLACE = "\x02problem\x03"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "chat_template.json",
    "chat_template.jinja",
)


@dataclass(frozen=True)
class ImageInputs:
    """Pixels as the vision tower takes them.

    Attributes:
        pixel_values_PC: float32, one row a patch, all images after one another.
        grid_thw_I3: int64, patches of each image in time, height and width.
    """

    pixel_values_PC: torch.Tensor
    grid_thw_I3: torch.Tensor


class PromptBuilder:
    """Builds prompts for one model directory; text of a problem never becomes a special token.

    `banned_token_ids` are never to be sampled: vision tokens, and ids of the model that have no text.

    Raises BadInput if the directory's tokenizer or chat template cannot be used for that.
    """

    def __init__(self, directory: Path, model: Model):
        try_tokenizer(directory)
        self.processor = load_processor(directory)
        self.tokenizer = self.processor.tokenizer
        self._model = model
        self._directory = directory
        vocabulary: dict[str, int] = self.tokenizer.get_vocab()
        config = read_config(directory)
        check_tokenizer(directory, vocabulary, config)
        vision = [vocabulary[token] for token in VISION_TOKENS if token in vocabulary]
        self.banned_token_ids = [*vision, *ids_without_text(vocabulary, config)]
        self.image_token_id = vocabulary["<|image_pad|>"]
        self._image_ids = [vocabulary["<|vision_start|>"], self.image_token_id, vocabulary["<|vision_end|>"]]
        self._refuse_special_text()

    def _refuse_special_text(self) -> None:
        """A tokenizer that declares a special token as a plain word would let a problem's text smuggle it in."""
        for token in {*self.tokenizer.all_special_tokens, *VISION_TOKENS}:
            number = self.tokenizer.get_vocab().get(token)
            if number is not None and number in self._encode(token, special=False):
                raise BadInput(f"model.base: the tokenizer in {self._directory} makes a special token of the text {token}")

    @cached_property
    def identity(self) -> str:
        """What differs where prompts may have other lengths: a hash of tokenizer, chat template and system prompt."""
        total = hashlib.sha256(repr(self._model.system_prompt).encode())
        for name in TOKENIZER_FILES:
            file = self._directory / name
            total.update(hashlib.sha256(file.read_bytes() if file.is_file() else b"").digest())
        return total.hexdigest()

    @cached_property
    def eos_token_ids(self) -> list[int]:
        """Every token that ends a response: the generation config's, else the tokenizer's."""
        from transformers import GenerationConfig

        if (self._directory / "generation_config.json").exists():
            eos = GenerationConfig.from_pretrained(self._directory).eos_token_id
            if eos is not None:
                return [eos] if isinstance(eos, int) else list(eos)
        if self.tokenizer.eos_token_id is None:
            raise BadInput(
                f"model.base: neither the tokenizer nor a generation_config.json in {self._directory} names an end token"
            )
        return [int(self.tokenizer.eos_token_id)]

    @cached_property
    def _frame(self) -> tuple[list[int], list[int]]:
        """Token ids before and after the user's text."""
        messages: list[dict[str, Any]] = [{"role": "user", "content": _PROBLEM_PLACE}]
        if self._model.system_prompt is not None:
            messages.insert(0, {"role": "system", "content": self._model.system_prompt})
        text = written_prompt(self._directory, self._template(), messages, self.tokenizer.special_tokens_map)
        parts = text.split(_PROBLEM_PLACE)
        if len(parts) != 2:
            raise BadInput(f"model.base: the chat template in {self._directory} writes the user's text {len(parts) - 1} times")
        before, after = parts
        return self._encode(before, special=True), self._encode(after, special=True)

    def _template(self) -> str:
        found = self.processor.chat_template
        template = found.get("default") if isinstance(found, dict) else found
        if not isinstance(template, str):
            raise BadInput(f"model.base: the chat template in {self._directory} fails: there is none; copy the model's own")
        return template

    def _encode(self, text: str, special: bool) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False, split_special_tokens=not special)["input_ids"])

    def fit_image(self, data: bytes) -> Image.Image:
        """The picture at the size that the vision tower and vLLM both see.

        Raises:
            BadImage: see `visionr1.data.images.open_image`.
        """
        return fit(open_image(data), self._model.min_pixels, self._model.max_pixels)

    def build(self, row: Row) -> Prompt:
        """The prompt with one placeholder an image, as vLLM wants it; vLLM expands it."""
        return Prompt(self._ids(row.problem), [self.fit_image(data) for data in row.images])

    def without_images(self, prompt: Prompt) -> Prompt:
        """Its text alone."""
        return Prompt([token for token in prompt.token_ids if token not in self._image_ids], [])

    def count_tokens(self, row: Row) -> int:
        """Prompt length in tokens, each picture counted as one token: `check_problems` adds the rest."""
        return len(self._ids(row.problem))

    def count_sample_tokens(self, sample: Sample) -> int:
        """Length of prompt and response, each picture counted as one token: `check_samples` adds the rest."""
        return len(self._ids(sample.problem)) + len(self.response_ids(sample.response))

    def _ids(self, problem: str) -> list[int]:
        before, after = self._frame
        ids = list(before)
        for place, text in enumerate(problem.split(IMAGE_MARK)):
            if place:
                ids += self._image_ids
            ids += self._encode(text, special=False) if text else []
        return ids + after

    def expand(self, prompt: Prompt) -> list[int]:
        """Token ids with one image token for each vision feature, as the model is trained on."""
        sizes = iter(self.image_tokens(image) for image in prompt.images)
        expanded: list[int] = []
        for token in prompt.token_ids:
            expanded += [token] * next(sizes) if token == self.image_token_id else [token]
        return expanded

    def image_tokens(self, image: Image.Image) -> int:
        """Vision features of a fitted picture (patch and merge sizes from the image processor)."""
        side = self.processor.image_processor.patch_size * self.processor.image_processor.merge_size
        return (image.width // side) * (image.height // side)

    def response_ids(self, response: str) -> list[int]:
        """Token ids of a whole assistant turn, its end token included; no other special token can appear."""
        return [*self._encode(response, special=False), self.eos_token_ids[0]]

    def image_inputs(self, images: list[Image.Image]) -> ImageInputs:
        """Patches of fitted pictures, in float32 on the CPU."""
        features = self.processor.image_processor(images=images, return_tensors="pt", do_resize=False)
        return ImageInputs(features["pixel_values"], features["image_grid_thw"])
