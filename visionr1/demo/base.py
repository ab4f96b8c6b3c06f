"""The demo's base model: a tiny Qwen2.5-VL that reads digits aloud, and cannot reason yet.

The paper starts from a model that sees and reckons; so does the demo. Captions of augmented train scans teach it, and exercises
in words, from random weights. It has seen no question, no chain of thought about a picture and no answer.
`python -m visionr1.demo.base --out DIR` makes the shipped directory again, in a quarter of an hour on 2 cores.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

from visionr1.data.digits import caption, draw, scans
from visionr1.demo.chains import READ_ALOUD, RECKON, corpus, exercises

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor
    from transformers import BatchFeature, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

STEPS: Final = 900
BATCH: Final = 64
EXERCISE_ROWS: Final = 32
PEAK_LEARNING_RATE: Final = 2e-3
WARMUP_STEPS: Final = 50
THREE_DIGITS: Final = 0.2
"""Part of the batches with three digits a picture."""


@dataclass(frozen=True)
class Captions:
    """Pictures with their captions; `digit_mask_BT` marks the tokens that name a digit of the picture."""

    inputs: BatchFeature
    labels_BT: Tensor
    digit_mask_BT: Tensor


def captions(
    processor: Qwen2_5_VLProcessor,
    ink_BD88: NDArray[np.float32],
    label_BD: NDArray[np.int64],
    augment: np.random.Generator | None = None,
) -> Captions:
    """A batch of pictures with D digits each, drawn as `digits.draw` does; the same D for all, so that no token is padding."""
    import torch

    turn: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": READ_ALOUD}]}]
    prompt = processor.apply_chat_template(turn, add_generation_prompt=True)
    replies = [f"{caption(labels)}{processor.tokenizer.eos_token}" for labels in label_BD.tolist()]
    inputs = processor(
        text=[prompt + reply for reply in replies], images=[draw(ink_D88, augment) for ink_D88 in ink_BD88], return_tensors="pt"
    )
    reply_tokens = len(processor.tokenizer(replies[0]).input_ids)
    labels_BT = torch.full_like(inputs["input_ids"], -100)
    labels_BT[:, -reply_tokens:] = inputs["input_ids"][:, -reply_tokens:]
    digit_ids = torch.tensor(processor.tokenizer.convert_tokens_to_ids(list("0123456789")))
    return Captions(inputs, labels_BT, torch.isin(labels_BT, digit_ids))


def reckoning(processor: Qwen2_5_VLProcessor, random: Random) -> tuple[BatchFeature, Tensor]:
    """A batch of rows of exercises, padded on the right, and labels_BT, which leave out the request and the padding."""
    turn = [{"role": "user", "content": RECKON}]
    prompt = processor.apply_chat_template(turn, add_generation_prompt=True)
    rows = [f"{prompt}{exercises(random)}{processor.tokenizer.eos_token}" for _ in range(EXERCISE_ROWS)]
    inputs = processor.tokenizer(rows, return_tensors="pt", padding=True, padding_side="right")
    labels_BT = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    labels_BT[:, : len(processor.tokenizer(prompt).input_ids)] = -100
    return inputs, labels_BT


def train(model: Qwen2_5_VLForConditionalGeneration, processor: Qwen2_5_VLProcessor, steps: int, seed: int) -> None:
    """Teach the model captions of train scans and exercises: AdamW, warm-up, cosine decay, fresh ones at every step."""
    import numpy as np
    import torch
    from rich.progress import track

    random = np.random.default_rng(seed)
    of_exercises = Random(seed)
    ink_N88, label_N = scans("train")
    optimiser = torch.optim.AdamW(model.parameters(), lr=PEAK_LEARNING_RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: learning_rate_factor(step, steps))
    for step in track(range(steps), "Teaching the base to read digits"):
        chosen_BD = random.integers(len(label_N), size=(BATCH, 3 if random.random() < THREE_DIGITS else 2))
        batch = captions(processor, ink_N88[chosen_BD], label_N[chosen_BD], random)
        loss = model(**batch.inputs, labels=batch.labels_BT).loss
        loss.backward()
        exercise, labels_BT = reckoning(processor, of_exercises)
        reckoned = model(**exercise, labels=labels_BT).loss
        reckoned.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        if step % 50 == 49 or step == steps - 1:
            print(f"step {step + 1} of {steps}: loss of captions {loss.item():.4f}, of exercises {reckoned.item():.4f}")


def learning_rate_factor(step: int, steps: int) -> float:
    """Linear warm-up over 50 steps (fewer in a short run), then cosine decay to 0."""
    warmup = min(WARMUP_STEPS, steps // 4)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def reading_accuracy(model: Qwen2_5_VLForConditionalGeneration, processor: Qwen2_5_VLProcessor, pictures: int = 300) -> float:
    """Part of the digits in held-out two-digit pictures that the model names, given the true caption up to each."""
    import numpy as np
    import torch

    ink_N88, label_N = scans("held-out")
    chosen_BD = np.random.default_rng(0).integers(len(label_N), size=(pictures, 2))
    batch = captions(processor, ink_N88[chosen_BD], label_N[chosen_BD])
    with torch.no_grad():
        logits_BTV = model(**batch.inputs).logits
    right_BT = logits_BTV[:, :-1].argmax(-1) == batch.labels_BT[:, 1:]
    return right_BT[batch.digit_mask_BT[:, 1:]].float().mean().item()


def main() -> None:
    """Entry point of `python -m visionr1.demo.base`."""
    from visionr1.demo.tiny import save, tiny_model, tiny_processor
    from visionr1.demo.tokenizer import train_tokenizer

    parser = argparse.ArgumentParser(description="Make the demo's base model from random weights.")
    parser.add_argument("--out", type=Path, required=True, help="Directory to write the model into.")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"Training steps of {BATCH} pictures.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of weights and pictures.")
    arguments = parser.parse_args()

    tokenizer = train_tokenizer(corpus())
    processor = tiny_processor(tokenizer)
    model = tiny_model(tokenizer, arguments.seed)
    train(model, processor, arguments.steps, arguments.seed)
    print(f"held-out reading accuracy: {reading_accuracy(model, processor):.1%} of digits")
    save(model, processor, arguments.out)
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
