"""How much work a step is: FLOPs and bytes that any implementation of Qwen2.5-VL must spend, and the least time for them.

A multiply-add is 2 FLOPs. Causal attention counts the pairs it needs. Recomputation, padding, and a prompt repeated for each of
its completions count nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from visionr1.capacity.model import ModelSizes


@dataclass(frozen=True)
class Peak:
    """The most that a device can do: FLOP/s in the training dtype, byte/s of memory. `device` says how the figures are known."""

    device: str
    flops: float
    bandwidth: float


@dataclass(frozen=True)
class Work:
    """What a part of a step needs from one device."""

    flops: float = 0.0
    bytes: float = 0.0

    def floor_seconds(self, peak: Peak) -> float:
        """The roofline floor: the device either computes or waits for memory, whichever takes longer."""
        return max(self.flops / peak.flops, self.bytes / peak.bandwidth)


@dataclass(frozen=True)
class ModelWork:
    """Sizes of a Qwen2.5-VL that its work follows from.

    Attributes:
        text_weights: elements of all matrices that each text token is multiplied with, the head excepted.
        head_weights: elements of the head.
        attention_width: query width (heads x head dimension) times layers.
        kv_elements: elements of a token's keys and values in all layers.
        vision_weights: elements of the matrices that each patch is multiplied with; the merger's are a quarter of its own.
        full_width, window_width: width of the vision tower times its layers with full and with windowed attention.
        window_patches: patches of a window.
        element_bytes: bytes of a weight, and of a cached key or value.
    """

    text_weights: int
    head_weights: int
    attention_width: int
    kv_elements: int
    vision_weights: int
    full_width: int
    window_width: int
    window_patches: int
    element_bytes: int

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights that decoding reads for every token of a batch."""
        return (self.text_weights + self.head_weights) * self.element_bytes

    def text_flops(self, prompts: Sequence[int], groups: Sequence[Sequence[int]], predicted: int) -> float:
        """A forward pass over prompts of so many tokens once each, and each prompt's completions of so many tokens after it.

        Args:
            predicted: places at which the head is computed.
        """
        tokens = sum(prompts) + sum(map(sum, groups))
        pairs = sum(_pairs(prompt) for prompt in prompts)
        for prompt, lengths in zip(prompts, groups, strict=True):
            pairs += sum(prompt * length + _pairs(length) for length in lengths)
        return 2 * self.text_weights * tokens + 2 * self.head_weights * predicted + 4 * self.attention_width * pairs

    def vision_flops(self, patches: Sequence[int]) -> float:
        """A forward pass of the vision tower over pictures of so many patches each."""
        full = sum(count * count for count in patches)
        windowed = sum(count * min(count, self.window_patches) for count in patches)
        return 2 * self.vision_weights * sum(patches) + 4 * (self.full_width * full + self.window_width * windowed)

    def update(
        self,
        prompts: Sequence[int],
        groups: Sequence[Sequence[int]],
        patches: Sequence[int],
        *,
        reference: bool,
        vision_trained: bool,
    ) -> Work:
        """Forward and backward (twice a forward) of a batch, each prompt once; one forward more with a `reference` model.

        Args:
            prompts: tokens of each prompt.
            groups: tokens of each completion of each prompt.
            patches: patches of each distinct picture.
        """
        text, vision = self.text_flops(prompts, groups, sum(map(sum, groups))), self.vision_flops(patches)
        passes = 4 if reference else 3
        return Work(text * passes + vision * (passes if vision_trained else passes - 2))

    def rollout(
        self, prompts: Sequence[int], groups: Sequence[Sequence[int]], patches: Sequence[int], max_sequences: int
    ) -> Work:
        """Prompts of so many tokens read once each, then decoding of each prompt's group of completions.

        The weights are read for every token of the longest completion, or more often where `max_sequences` at a time
        cannot do it; every new token reads the keys and values of all before it.
        """
        flops = self.text_flops(prompts, [()] * len(prompts), 0) + self.vision_flops(patches)
        generated = context = longest = 0
        for prompt, lengths in zip(prompts, groups, strict=True):
            for length in lengths:
                generated += length
                longest = max(longest, length)
                context += length * prompt + _pairs(length)
        flops += 2 * (self.text_weights + self.head_weights) * generated + 4 * self.attention_width * context
        rounds = max(longest, -(-generated // max_sequences))
        return Work(flops, rounds * self.weight_bytes + context * self.kv_elements * self.element_bytes)

    def sync(self) -> Work:
        """Every weight read from the trainer and written into the engine."""
        return Work(bytes=2 * self.weight_bytes)


def _pairs(length: int) -> int:
    """Pairs of a query and a key in causal attention."""
    return length * (length + 1) // 2


def model_work(model: ModelSizes, element_bytes: int) -> ModelWork:
    """What the work on a model of these sizes follows from."""
    layer = model.width * (2 * model.queries + 2 * model.keys + 3 * model.inner)
    merged = model.vision_width * model.merged
    block = model.vision_width * (4 * model.vision_width + 3 * model.vision_inner)
    merger = merged * (merged + model.vision_out) // model.merged
    return ModelWork(
        text_weights=model.layers * layer,
        head_weights=model.embedding,
        attention_width=model.layers * model.queries,
        kv_elements=2 * model.layers * model.keys,
        vision_weights=model.patch * model.vision_width + model.vision_layers * block + merger,
        full_width=model.vision_full_layers * model.vision_width,
        window_width=(model.vision_layers - model.vision_full_layers) * model.vision_width,
        window_patches=model.window,
        element_bytes=element_bytes,
    )


def peak_values(peak: Peak | None) -> dict[str, dict[str, float]]:
    """What the ratios of `efficiency` refer to, keyed as in `visionr1.metrics`."""
    if peak is None:
        return {}
    return {
        "peak_flops_per_second": {peak.device: peak.flops},
        "peak_memory_bytes_per_second": {peak.device: peak.bandwidth},
    }


def efficiency(parts: dict[str, tuple[Work, float]], peak: Peak | None) -> dict[str, dict[str, float]]:
    """The values of `visionr1.metrics` for parts of a step, each given as (work, seconds); nothing without a known peak.

    MFU is FLOPs over what the device could have done in that time, the roofline ratio the floor over the real time.
    """
    if peak is None:
        return {}
    floors = {part: work.floor_seconds(peak) for part, (work, _) in parts.items()}
    return {
        "floor_seconds": floors,
        "roofline_ratio": {part: floors[part] / seconds for part, (_, seconds) in parts.items()},
        "mfu_ratio": {part: work.flops / seconds / peak.flops for part, (work, seconds) in parts.items() if work.flops},
    }
