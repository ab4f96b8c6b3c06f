"""Seconds of each part of a step: the least that the device needs (roofline), and what is expected."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from visionr1.capacity.cards import Fleet
from visionr1.capacity.choose import Choice
from visionr1.capacity.decode import decode_seconds, mixed
from visionr1.capacity.lengths import Sizes, deviation, part_of, spread
from visionr1.capacity.model import ModelSizes
from visionr1.capacity.pace import Pace
from visionr1.capacity.work import Work, model_work
from visionr1.recipe.schema import SFT, Recipe, Stage

FILLED: Final = 0.95
"""Part of a packed row that is full, on average; an assumption."""
UNLIKE: Final = 0.5
"""Deviation of a cold-start sample's length by the mean; an assumption."""
ALIKE: Final = 0.5
"""Deviation of a group's mean length by that of single completions: completions of one problem are alike; an assumption."""
PROBE_TOKENS: Final = 64
"""Tokens of the parity probe."""


@dataclass(frozen=True)
class Part:
    """Seconds of a part of a step: the roofline floor, where there is one, and the expected time."""

    expected: float
    floor: float = 0.0


@dataclass(frozen=True)
class Rows:
    """Packed rows of a rank in a step: of an average rank and of the fullest, and the passes that all ranks go through."""

    mean: float
    fullest: float
    passes: int

    @property
    def stretch(self) -> float:
        """How much longer the ranks compute together than an average one would alone: each pass waits for the slowest."""
        return self.fullest / self.mean

    @property
    def idle(self) -> float:
        """Passes in which an average rank does nothing useful."""
        return self.passes - self.mean


@dataclass(frozen=True, kw_only=True)
class StepTimes:
    """A step of a phase on average."""

    parts: dict[str, Part]
    rows: Rows
    tokens: float

    @property
    def seconds(self) -> float:
        """Of the whole step."""
        return sum(part.expected for part in self.parts.values())


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a time is computed for.

    Attributes:
        fleet: GPUs of the stages.
        sft_gpus: GPUs of SFT; None takes as many of the fleet as a batch has samples.
    """

    recipe: Recipe
    model: ModelSizes
    fleet: Fleet
    pace: Pace
    sizes: Sizes
    sft_gpus: int | None = None

    @property
    def element(self) -> int:
        """Bytes of a weight."""
        return 2 if self.recipe.model.dtype == "bfloat16" else 4

    @property
    def weight_bytes(self) -> float:
        """Of a whole model."""
        return float(self.element * self.model.parameters)

    @property
    def patches(self) -> int:
        """Of a problem's picture."""
        return round(self.sizes.image_tokens * self.model.merged)

    def collective(self, size: float) -> float:
        """Seconds in which all ranks gather or reduce so many bytes, over the slowest link between them."""
        count = self.fleet.count
        if count == 1:
            return 0.0
        speed = self.fleet.card.link / 2 if self.fleet.nodes == 1 else min(self.fleet.card.link / 2, self.pace.network)
        return size * (count - 1) / count / (speed * self.pace.link)

    def computing(self, flops: float) -> float:
        """Seconds of so many FLOPs on one GPU."""
        return flops / (self.fleet.card.flops * self.pace.compute)


def stage_times(setting: Setting, stage: Stage, choice: Choice, mean: float, cache_tokens: float) -> StepTimes:
    """A step of a stage. All answers are taken to be graded after the last engine is done; in fact, grading begins before.

    Args:
        mean: completion tokens.
        cache_tokens: tokens that one engine's KV cache holds.
    """
    recipe, fleet, sizes = setting.recipe, setting.fleet, setting.sizes
    groups = recipe.algorithm.prompts_per_step / fleet.count
    shown, _ = part_of(groups * stage.group_size)
    lengths = spread(mean, stage.max_completion_tokens, shown)
    rows = _rows(setting, stage, choice, groups, mean)
    update = _update_work(setting, stage, groups, lengths, rows)
    parts = {
        "rollout": _rollout(setting, stage, groups, mean, cache_tokens),
        "reward": Part(recipe.algorithm.prompts_per_step * stage.group_size / (recipe.reward.processes * setting.pace.grades)),
    }
    if recipe.algorithm.kl_beta > 0:
        moved = 2 * setting.weight_bytes / setting.pace.host if choice.reference == "host" else 0.0
        if choice.zero_stage == 3 and choice.reference == "gpu":  # then it is divided, too
            moved = rows.passes * setting.collective(setting.weight_bytes)
        passes = rows.passes * setting.pace.row_seconds + setting.computing(update.forward * rows.stretch)
        parts["reference"] = Part(moved + passes, update.forward / fleet.card.flops)
    parts["update"] = _update(setting, choice, rows, update)
    parts["checkpoint"] = Part(_save_seconds(setting, _trained(setting)) * saves(recipe, stage) / stage.steps)
    sync = _sync(setting, choice)
    parts["weight_sync"] = sync
    probe = PROBE_TOKENS * setting.pace.token_seconds + 2 * _moved(setting, choice) + sync.expected
    parts["parity_probe"] = Part(probe / recipe.rollout.parity_every)
    tokens = recipe.algorithm.prompts_per_step * (sizes.prompt_tokens + stage.group_size * mean)
    return StepTimes(parts=parts, rows=rows, tokens=tokens)


def sft_times(setting: Setting, sft: SFT, zero_stage: int, steps: int) -> StepTimes:
    """A step of SFT; ranks for which a batch has no sample wait."""
    recipe, fleet, work = setting.recipe, setting.fleet, model_work(setting.model, setting.element)
    samples, mean = max(1.0, sft.global_batch_size / fleet.count), setting.sizes.sft_tokens
    rows = _balanced(samples * mean, UNLIKE * mean * math.sqrt(samples), sft.micro_batch_tokens * FILLED, fleet.count)
    prompt = min(setting.sizes.prompt_tokens, mean)
    response = round(mean - prompt)
    forward = samples * work.text_flops([round(prompt)], [[response]], response)
    vision, trained = samples * work.vision_flops([setting.patches]), not sft.freeze_vision_tower
    floor = 3 * forward + (3 if trained else 1) * vision
    again = forward + (vision if trained else 0) if recipe.model.gradient_checkpointing else 0.0
    parameters = setting.model.trained(vision=trained)
    seconds = setting.computing((floor + again) * rows.stretch) + rows.passes * setting.pace.row_seconds
    seconds += _exchanges(setting, zero_stage, rows.passes, 1, parameters)
    seconds += 2 * 18 * parameters / fleet.count / fleet.card.bandwidth
    written = -(-steps // sft.checkpoint_every) * _save_seconds(setting, parameters) / steps
    parts = {"update": Part(seconds, floor / fleet.card.flops), "checkpoint": Part(written)}
    return StepTimes(parts=parts, rows=rows, tokens=sft.global_batch_size * mean)


@dataclass(frozen=True)
class _UpdateWork:
    """FLOPs of a rank: a forward pass, and all that an optimiser's batch executes; `floor` leaves recomputation out."""

    forward: float
    executed: float
    floor: float


def _rows(setting: Setting, stage: Stage, choice: Choice, groups: float, mean: float) -> Rows:
    prompt, most = setting.sizes.prompt_tokens, choice.row_tokens * FILLED
    completions = groups * stage.group_size
    spread_of_rank = ALIKE * deviation(mean, stage.max_completion_tokens) * stage.group_size * math.sqrt(groups)
    if setting.recipe.model.attention == "shared":
        # A group that is longer than a row goes into several, each with the prompt.
        room = max(most - prompt, mean)
        tokens = groups * stage.group_size * mean + max(groups, completions * mean / room) * prompt
    else:
        tokens = completions * (mean + prompt)
    return _balanced(tokens, spread_of_rank, most, setting.fleet.count)


def _balanced(tokens: float, deviation_: float, most: float, ranks: int) -> Rows:
    """All ranks go through as many rows as the fullest has."""
    fullest = tokens + deviation_ * math.sqrt(2 * math.log(ranks))
    return Rows(tokens / most, fullest / most, math.ceil(fullest / most))


def _update_work(setting: Setting, stage: Stage, groups: float, lengths: list[float], rows: Rows) -> _UpdateWork:
    recipe, work = setting.recipe, model_work(setting.model, setting.element)
    prompt, completions = round(setting.sizes.prompt_tokens), [round(length) for length in lengths]
    per_rank = groups * stage.group_size / len(completions)
    predicted = sum(completions)
    if recipe.model.attention == "shared":
        text = work.text_flops([prompt], [completions], predicted)
        # Prompts beyond the first: once for each group, and again in each further row of a long group.
        text += (max(groups, rows.mean) / per_rank - 1) * work.text_flops([prompt], [[]], 0)
    else:
        text = work.text_flops([prompt] * len(completions), [[length] for length in completions], predicted)
    text, vision = text * per_rank, work.vision_flops([setting.patches]) * max(groups, rows.mean)
    again = 1 if recipe.model.gradient_checkpointing else 0
    trained = not recipe.optimiser.freeze_vision_tower
    floor = 3 * text + (3 if trained else 1) * vision
    executed = floor + again * (text + (vision if trained else 0))
    old = text + vision if recipe.algorithm.updates_per_batch > 1 else 0.0
    return _UpdateWork(text + vision, executed + old, floor)


def _update(setting: Setting, choice: Choice, rows: Rows, work: _UpdateWork) -> Part:
    """Passes, exchanges between ranks, the optimiser's steps, and moving the states to the GPU and back."""
    updates = setting.recipe.algorithm.updates_per_batch
    passes = max(rows.passes, updates)
    trained = _trained(setting)
    seconds = setting.computing(work.executed * rows.stretch) + passes * setting.pace.row_seconds
    seconds += _exchanges(setting, choice.zero_stage, passes, updates, trained)
    seconds += updates * 2 * 18 * trained / setting.fleet.count / setting.fleet.card.bandwidth
    return Part(seconds + 2 * _moved(setting, choice), work.floor / setting.fleet.card.flops)


def _exchanges(setting: Setting, zero_stage: int, passes: int, steps: int, trained: int) -> float:
    """Each pass reduces its gradients. Under ZeRO-1 and 2, each step gathers all weights.

    Under ZeRO-3 each pass gathers them twice, and with several steps a third time, for the old log-probs.
    """
    gathers = (2 if steps == 1 else 3) * passes if zero_stage == 3 else steps
    return gathers * setting.collective(setting.weight_bytes) + passes * setting.collective(setting.element * trained)


def _trained(setting: Setting) -> int:
    """Parameters that GRPO's optimiser has."""
    return setting.model.trained(vision=not setting.recipe.optimiser.freeze_vision_tower)


def _moved(setting: Setting, choice: Choice) -> float:
    """Seconds of moving the trainer's states between GPU and host, one way."""
    trained = _trained(setting)
    weights = 0.0 if choice.zero_stage == 3 else setting.weight_bytes
    return (weights + 12 * trained / setting.fleet.count) / setting.pace.host


def _rollout(setting: Setting, stage: Stage, groups: float, mean: float, cache_tokens: float) -> Part:
    parts = stage.tensor_parallel
    shown, times = part_of(groups * parts * stage.group_size)
    lengths = spread(mean, stage.max_completion_tokens, shown)
    seconds = sampling_seconds(setting, groups * parts / times, lengths, cache_tokens, parts)
    floor = rollout_work(setting, groups * parts / times, lengths).floor_seconds(setting.fleet.card.peak) / parts
    return Part(times * seconds, times * floor)


def rollout_work(setting: Setting, prompts: float, lengths: list[float]) -> Work:
    """Of an engine."""
    work = model_work(setting.model, setting.element)
    prompt, completions = round(setting.sizes.prompt_tokens), [round(length) for length in lengths]
    one = work.rollout([prompt], [completions], [setting.patches], setting.recipe.rollout.max_sequences)
    read = (prompts - 1) * (work.text_flops([prompt], [[]], 0) + work.vision_flops([setting.patches]))
    return Work(one.flops + read, one.bytes)


def sampling_seconds(setting: Setting, prompts: float, lengths: list[float], cache_tokens: float, parts: int) -> float:
    """One engine on `parts` GPUs reads its prompts and decodes completions of these lengths."""
    work, card, pace = model_work(setting.model, setting.element), setting.fleet.card, setting.pace
    prompt = setting.sizes.prompt_tokens
    mean = sum(lengths) / len(lengths)
    slots = max(1, min(setting.recipe.rollout.max_sequences, int(cache_tokens / (prompt + mean))))
    fixed = pace.token_seconds + (2 * setting.model.layers * pace.allreduce_seconds if parts > 1 else 0.0)
    token_flops = 2 * (work.text_weights + work.head_weights)

    def step(active: int, context: float) -> float:
        read = (work.weight_bytes + context * work.kv_elements * work.element_bytes) / (parts * card.bandwidth * pace.decode)
        flops = active * token_flops + 4 * work.attention_width * context
        return max(read, setting.computing(flops) / parts) + fixed

    reading = prompts * (work.text_flops([round(prompt)], [[]], 0) + work.vision_flops([setting.patches]))
    return setting.computing(reading) / parts + decode_seconds(prompt, mixed(lengths), slots, step)


def _sync(setting: Setting, choice: Choice) -> Part:
    gathered = setting.collective(setting.weight_bytes) if choice.zero_stage == 3 else 0.0
    copied = 2 * setting.weight_bytes / setting.fleet.card.bandwidth
    return Part(gathered + copied + setting.pace.sync_seconds, copied)


def saves(recipe: Recipe, stage: Stage) -> int:
    """Checkpoints of a stage: one after so many steps, and one at its end."""
    return -(-stage.steps // recipe.checkpoint.every)


def _save_seconds(setting: Setting, trained: int) -> float:
    """Ranks write weights and the optimiser's states together, each its part; a node's files share its disk."""
    return (setting.weight_bytes + 12 * trained) / setting.fleet.nodes / setting.pace.disk
