"""A run directory as the phases would leave it, made of drawn numbers."""

import base64
import io
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from visionr1.recipe import parse_recipe, to_yaml
from visionr1.rundir.attempts import AttemptRecord, write_attempt
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.storage import open_store

RECIPE = """
name: geometry-7b
model: {base: Qwen/Qwen2.5-VL-7B-Instruct}
data: {train: {path: train.parquet}, held_out: {path: held-out.parquet}}
coldstart: {problems: {path: train.parquet}}
sft: {epochs: 2}
stages:
  - {max_completion_tokens: 4096, group_size: 16, steps: 100}
  - {max_completion_tokens: 8192, group_size: 8, steps: 100}
  - {max_completion_tokens: 16384, group_size: 4, steps: 100}
"""

# Of the model after each phase: accuracy, median tokens, words of reflection a thousand tokens.
MODELS = {"sft": (0.445, 3100, 4.0), "stage-1": (0.512, 1150, 2.2), "stage-2": (0.543, 1500, 2.6), "stage-3": (0.566, 1750, 3.0)}
BEGUN = 1_780_000_000.0


def picture(seed: int) -> str:
    """A small base64 PNG with a triangle."""
    draws = random.Random(seed)
    image = Image.new("RGB", (160, 110), "white")
    corners = [
        (draws.randint(8, 60), draws.randint(60, 100)),
        (draws.randint(90, 150), draws.randint(60, 100)),
        (draws.randint(40, 120), 12),
    ]
    ImageDraw.Draw(image).polygon(corners, outline="black")
    data = io.BytesIO()
    image.save(data, "PNG", optimize=True)
    return base64.b64encode(data.getvalue()).decode()


def response(draws: random.Random, tokens: int, per_thousand: float, answer: str) -> str:
    plain = ["The angle at B is 35 degrees.", "So AB equals 12.", "The two triangles are similar.", "That gives x = 7."]
    looks = [
        "Wait, let me look again.",
        "Wait, that is not right.",
        "Hmm.",
        "Alternatively, use the area.",
        "I made a mistake.",
        "Let me check.",
    ]
    sentences = [draws.choice(plain) for _ in range(max(2, tokens // 60))]
    for _ in range(round(tokens * per_thousand / 1000)):
        sentences.insert(draws.randrange(len(sentences)), draws.choices(looks, [5, 3, 1, 2, 0.5, 1])[0])
    return f"<think> {' '.join(sentences)} </think><answer> Final Answer:{answer} </answer>"


def samples(phase: str, problems: int = 160) -> list[dict[str, Any]]:
    accuracy, median, per_thousand = MODELS[phase]
    rows = []
    for index in range(problems):
        draws = random.Random(f"{phase} {index}")
        tokens = min(16000, int(draws.lognormvariate(math.log(median), 0.8)))
        right = draws.random() < accuracy * (1.15 if tokens < 4096 else 0.7 if tokens < 8192 else 0.3)
        answer = "7" if right else "5"
        row = {
            "id": f"held-out.parquet:{index}",
            "sample": 0,
            "problem": "<image>In the figure, AB is parallel to CD. Find x.",
            "images": [picture(index)] if index % 14 == 0 else [],
            "response": response(draws, tokens, per_thousand, answer),
            "tokens": tokens,
            "finish_reason": "length" if tokens == 16000 else "stop",
            "overall": float(right),
            "format": 1.0,
            "accuracy": float(right),
            "answer": answer,
            "reason": "right" if right else "another answer",
            "truth": "7",
        }
        rows.append(row)
    return rows


def grpo_step(stage: int, step: int) -> dict[str, Any]:
    draws = random.Random(step)
    start, end = [(2350, 1330), (1420, 2060), (2100, 3010)][stage - 1]
    part = (step - 1) % 100 / 99
    reward = 0.28 + 0.32 * (1 - math.exp(-step / 70))
    return {
        "phase": f"stage-{stage}",
        "stage": stage,
        "step": step,
        "time": BEGUN + 60 * step,
        "reward_mean": reward + draws.gauss(0, 0.025),
        "completion_tokens_mean": start + (end - start) * part + draws.gauss(0, 90),
        "completion_truncated_ratio": 0.05,
        "step_seconds": {"rollout": 30.0, "reward": 1.0, "update": 20.0},
        **({"pause_seconds": 93.5} if step == 150 else {}),
    }


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """make_run(phases, steps, recipe): a run in which these phases are over and `steps` GRPO steps are done."""

    def make(
        phases: tuple[str, ...] = ("coldstart", "sft", "stage-1", "stage-2", "stage-3", "evaluate"), steps: int = 300
    ) -> Path:
        folder = tmp_path / "runs" / "geometry-7b"
        store = open_store(str(folder))
        put(folder / "recipe.yaml", to_yaml(parse_recipe(RECIPE, "recipe")))
        records = [
            {"phase": "sft", "stage": None, "step": n, "time": BEGUN + n, "loss": 2 / n} for n in range(1, 51) if "sft" in phases
        ]
        records += [grpo_step((step - 1) // 100 + 1, step) for step in range(1, steps + 1)]
        put(folder / "steps.jsonl", "".join(json.dumps(record) + "\n" for record in records))
        if "coldstart" in phases:
            rejected = {"wrong answer": 377, "image not seen": 71, "truncated": 21}
            report = {
                "problems": 1500,
                "kept": 1031,
                "rejected": rejected,
                "examples": {rule: {"id": "train.parquet#4", "excerpt": f"an excerpt with {rule}"} for rule in rejected},
                "reflection_words": {"Wait": 2900, "Hmm": 310, "Mistake": 130, "Alternatively": 900, "Check": 480},
                "mean_words": 611.4,
                "asked": 4500,
                "reused": 0,
            }
            put(folder / "coldstart/report.json", json.dumps(report))
            put(folder / "coldstart/data.jsonl", "{}\n")
            put(folder / "coldstart/manifest.json", json.dumps({"samples": 1031}))
        for place, phase in enumerate(phases):
            begun = BEGUN + 9000 * place
            attempt = AttemptRecord(["visionr1"], begun, None, begun + 5000 + 700 * place, 0, None, (place + 3) * 2**33)
            write_attempt(store, phase, 0, attempt)
            put(folder / f"phases/{phase}/attempt-0/log.txt", "done\n")
            if phase in MODELS:
                Checkpoints(store, phase).commit(last_step(phase, steps), [], {"final": phase == "sft"})
        if "evaluate" in phases:
            for phase in MODELS:
                if phase in phases:
                    put_score(folder, phase, last_step(phase, steps), samples(phase))
        return folder

    return make


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def last_step(phase: str, steps: int) -> int:
    """Of a phase in a run with so many GRPO steps."""
    return 50 if phase == "sft" else min(steps, 100 * int(phase[-1]))


def put_score(folder: Path, phase: str, step: int, rows: list[dict[str, Any]]) -> None:
    """eval/<phase>.json and its samples."""
    accuracy = sum(row["accuracy"] for row in rows) / len(rows)
    score = {
        "phase": phase,
        "step": step,
        "accuracy": accuracy,
        "standard_error": math.sqrt(accuracy * (1 - accuracy) / (len(rows) - 1)),
        "completion_tokens_mean": sum(row["tokens"] for row in rows) / len(rows),
        "truncated_ratio": sum(row["finish_reason"] == "length" for row in rows) / len(rows),
        "problems": len(rows),
        "samples_per_problem": 1,
        "seconds": 300.0,
    }
    put(folder / f"eval/{phase}.json", json.dumps(score))
    put(folder / f"eval/{phase}.samples.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
