"""How fast ordinary answers are graded, compared with math-verify alone in one process.

The answers are spread as in the paper's kind of data: letters of a multiple choice, numbers with and without a unit, degrees,
fractions, roots, multiples of pi and algebra, about half of them right, hardly any of them twice. CPU seconds are those of all
grading processes together, so they tell the rate on a machine that has other work too.

    python benchmarks/reward_speed.py --answers 10000
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import time
from pathlib import Path

from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify
from rich.console import Console
from rich.table import Table

from visionr1.recipe.reward import Reward
from visionr1.reward import Grader

FORMS = [
    # Share, the true answer, how it is given; {0} is the true number, {1} the given one.
    (30, "{0}", "{1}"),
    (10, "{0}", "{1}^\\circ"),
    (10, "{0} cm", "{1} \\text{{ cm}}"),
    (5, "{0}\\%", "{1}%"),
    (8, "\\frac{{{0}}}{{77}}", "\\dfrac{{{1}}}{{77}}"),
    (5, "{0}.5", "\\frac{{{1}1}}{{2}}"),
    (8, "{0}\\sqrt{{3}}", "{1}√3"),
    (5, "{0}\\pi", "{1}π cm²"),
    (4, "({0}, 5)", "\\left({1}, 5\\right)"),
    (4, "{0}, 7", "x = 7 or x = {1}"),
    (4, "{0}x + 1", "1 + {1}x"),
    (2, "x > {0}", "({1}, \\infty)"),
    (5, "B. {0}", "B. {1}"),
]


def ordinary(answers: int, seed: int) -> list[tuple[str, str]]:
    """(answer, true answer) for each."""
    rng = random.Random(seed)
    pairs = []
    for _, truth, given in rng.choices(FORMS, weights=[share for share, _, _ in FORMS], k=answers):
        number = rng.randrange(2, 100_000)
        pairs.append((given.format(number, rng.choice([number, number + rng.randrange(1, 50)])), truth.format(number)))
    return pairs


def cpu_seconds(pids: list[int]) -> float:
    """Of these processes and their children that live."""
    tree = pids + [int(child) for pid in pids for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in tree]
    return sum(int(field[11]) + int(field[12]) for field in fields) / os.sysconf("SC_CLK_TCK")


def ours(pairs: list[tuple[str, str]], processes: int) -> dict[str, float]:
    responses = [f"<think>Let me see.</think><answer> Final Answer:{answer} </answer>" for answer, _ in pairs]
    with Grader(Reward(processes=processes)) as grader:
        grader.grade(
            [responses[0].replace(pairs[0][0], f"x+{n}") for n in range(processes)], [f"{n}+x" for n in range(processes)]
        )
        pids = [worker.child.pid for worker in grader._pool._workers]
        cpu, own, start = cpu_seconds(pids), time.process_time(), time.monotonic()
        grades = grader.grade(responses, [truth for _, truth in pairs])
        return {
            "answers": len(pairs),
            "seconds": round(time.monotonic() - start, 2),
            "cpu_seconds": round(cpu_seconds(pids) - cpu + time.process_time() - own, 2),
            "right": sum(grade.overall for grade in grades),
        }


def plain_math_verify(pairs: list[tuple[str, str]]) -> dict[str, float]:
    config = [LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig()]
    own, start = time.process_time(), time.monotonic()
    right = 0
    for answer, truth in pairs:
        gold, given = (parse(f"${text}$", config, parsing_timeout=None) for text in (truth, answer))
        right += verify(gold, given, timeout_seconds=None)
    return {
        "answers": len(pairs),
        "seconds": round(time.monotonic() - start, 2),
        "cpu_seconds": round(time.process_time() - own, 2),
        "right": right,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=10_000)
    parser.add_argument("--baseline-answers", type=int, default=1000, help="how many of them plain math-verify compares")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    logging.disable(logging.WARNING)  # math-verify warns at each call that it has no time limit of its own.
    pairs = ordinary(asked.answers, asked.seed)
    plain_math_verify(pairs[:5])  # Builds the parser's tables.
    result = {
        f"this project, {asked.processes} processes": ours(pairs, asked.processes),
        "math-verify alone, 1 process": plain_math_verify(pairs[: asked.baseline_answers]),
    }
    print(json.dumps(result))
    table = Table("", "answers", "seconds", "CPU seconds", "CPU ms an answer", "right", title="Grading ordinary answers")
    for name, row in result.items():
        each = f"{1000 * row['cpu_seconds'] / row['answers']:.2f}"
        table.add_row(name, *(str(row[key]) for key in ("answers", "seconds", "cpu_seconds")), each, str(row["right"]))
    Console(stderr=True).print(table)


if __name__ == "__main__":
    main()
