"""Chains of thought for SFT in the layout of Vision-R1-cold, made in a moment."""

import json
from pathlib import Path
from random import Random

from visionr1.demo.chains import chain
from visionr1.demo.digits import problems


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
