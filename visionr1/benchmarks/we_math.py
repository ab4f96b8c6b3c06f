"""We-Math (arXiv 2407.01284): 525 problems of two or three steps, each also asked step by step: 1,740 questions.

Source of the rule: We-Math/We-Math, commit a57a0e8, `four_dimensional_metrics.py`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from visionr1.benchmarks.problem import Benchmark, Column, Draft, Problem, Right, Rule, Same
from visionr1.data.options import read_options

_IGNORED: Final = re.compile(r"[<>:.]")
_KEY: Final = re.compile(r"[1-9][a-z]*_\w+", re.ASCII)
"""How many steps a problem has, and which of its questions this is: `2steps_1`, `2steps_multi`."""


def read(problem: Problem, reply: str) -> str:
    """The letter from A to H that begins what follows the last `Answer`; "" if none does."""
    text = _IGNORED.sub("", reply.split("Answer")[-1].strip()).strip()
    return text[:1] if text[:1] in tuple("ABCDEFGH") else ""


def right(problem: Problem, answer: str, same: Same) -> bool:
    """Whether it is the letter of the true option."""
    return answer == str(problem.facts["answer"])


RULE: Final = Rule("letter-after-answer", 1, read, read, right)


def draft(cells: Mapping[str, Any], place: int) -> Draft:
    """A problem of a row. Raises ValueError for a key of another form."""
    if not _KEY.fullmatch(cells["key"]):
        raise ValueError(f"key is {cells['key']!r:.40}, which does not begin like 2steps_")
    name = f"{cells['ID']}/{cells['key']}"
    return Draft(name, cells["question"], cells["option"], cells["answer"], read_options(cells["option"]), cells["image_path"])


def figures(right: Right) -> dict[str, float]:
    """The score, strict and loose, and its four parts as shares of the whole problems.

    With insufficient knowledge (IK) a step and the whole are wrong, with inadequate generalization (IG) the steps are right and
    the whole is wrong. By rote memorization (RM) the whole is right although a step (strict), or each step (loose), is wrong. The
    rest is complete mastery (CM). Problems of which a question is missing do not count.
    """
    problems: dict[tuple[str, str], dict[str, bool]] = {}
    for problem, is_right in right:
        steps, _, part = problem.facts["key"].partition("_")
        problems.setdefault((steps, problem.facts["ID"]), {})[part] = is_right
    counts: Counter[str] = Counter()
    for (steps, _), parts in problems.items():
        if len(parts) == int(steps[0]) + 1 and "multi" in parts:
            whole = parts.pop("multi")
            counts.update(_dimensions(whole, list(parts.values())))
    if not counts["all"]:
        return {}
    shares = {name: counts[name] / counts["all"] for name in ("IK", "IG", "CM strict", "CM loose", "RM strict", "RM loose")}
    lost = 0.5 * shares["IG"] + shares["IK"]
    return {"strict": 1 - lost - shares["RM strict"], "loose": 1 - lost - shares["RM loose"]} | shares


def _dimensions(whole: bool, steps: list[bool]) -> list[str]:
    """What a problem counts for."""
    if not whole:
        return ["all", "IG" if all(steps) else "IK"]
    return ["all", "CM strict" if all(steps) else "RM strict", "CM loose" if any(steps) else "RM loose"]


WE_MATH: Final = Benchmark(
    name="we-math",
    title="We-Math",
    sources=("hf://We-Math/We-Math@testmini",),
    sizes={"testmini": 1740},
    columns={
        "ID": Column(("ID", "problem_id"), "any"),
        "key": Column(("key",), "text"),
        "question": Column(("question",), "text"),
        "option": Column(("option",), "text"),
        "answer": Column(("answer",), "text"),
        "image_path": Column(("image_path", "image"), "picture"),
    },
    draft=draft,
    rule=RULE,
    figures=figures,
)
