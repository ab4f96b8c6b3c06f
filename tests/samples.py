"""Chains of thought for SFT in the layout of Vision-R1-cold, and a record of a step log, made in a moment."""

import json
from pathlib import Path
from random import Random
from typing import Any

from visionr1.data.digits import problems
from visionr1.demo.chains import chain


def samples(folder: Path, broken: tuple[int, ...] = (), count: int = 12) -> Path:
    """A file of chains of thought; the pictures of those in `broken` cannot be opened."""
    folder.mkdir()
    lines = []
    for place, row in enumerate(problems("train")[:count]):
        picture = folder / f"{place}.png"
        picture.write_bytes(b"no picture" if place in broken else row.images[0])
        text, answer = chain("sum", [place % 10, 3], Random(place))
        reply = f"<think> {text} </think><answer> Final Answer:{answer} </answer>"
        turns = [{"from": "human", "value": row.problem}, {"from": "gpt", "value": reply}]
        lines.append(json.dumps({"image": picture.name, "conversations": turns}) + "\n")
    file = folder / "data.jsonl"
    file.write_text("".join(lines))
    return file


def step_record(step: int) -> dict[str, Any]:
    """What stage 1 logs of a step, ten seconds after the one before."""
    return {
        "phase": "stage-1",
        "stage": 1,
        "step": step,
        "time": 1000.0 + 10 * step,
        "reward_mean": 0.5,
        "completion_tokens_mean": 40.0,
        "completion_truncated_ratio": 0.1,
        "advantage_zero_std_ratio": 0.2,
        "generated_tokens": 500,
        "loss": 0.1,
        "grad_norm": 1.0,
        "logprob_mismatch": 1e-6,
        "step_seconds": {"rollout": 4.0, "checkpoint": 1.0},
    }
