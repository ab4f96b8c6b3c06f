"""Scores published model outputs by our rules and compares with the verdicts that the sets' authors published.

`python benchmarks/gold.py FOLDER`: every `mathvista-*.jsonl.gz` (`extraction`, `true_false`) and `mathvision-*.jsonl.gz`
(`response`, `correct`) in the folder, with the problems' own columns in each row. Ends with 1 if a file agrees in under 99.8 %.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

from visionr1.benchmarks.mathvision import MATHVISION
from visionr1.benchmarks.mathvista import MATHVISTA
from visionr1.benchmarks.problem import Problem
from visionr1.data.rows import Row

LEAST = 0.998


def verdicts(name: str, row: dict[str, Any]) -> tuple[str, bool, bool]:
    """The answer as it was read, our verdict, and the authors'."""
    problem = Problem(Row("", "", (), str(row["answer"])), row["question"], row)
    if name.startswith("mathvista"):
        rule, answer, theirs = MATHVISTA.rule, str(row["extraction"]), row["true_false"]
    else:
        rule, theirs = MATHVISION.rule, row["correct"]
        answer = rule.read(problem, row["response"])
    return answer, rule.right(problem, answer, lambda _given, _true: False), theirs


def main(folder: str) -> int:
    good = True
    for file in sorted(Path(folder).glob("math*.jsonl.gz")):
        with gzip.open(file, "rt") as lines:
            rows = [json.loads(line) for line in lines]
        compared = [(row, *verdicts(file.name, row)) for row in rows]
        others = [one for one in compared if one[2] != one[3]]
        share = 1 - len(others) / len(rows)
        print(f"{file.name}: {len(rows) - len(others)} of {len(rows)} verdicts are the authors' ({share:.2%})")
        for row, answer, ours, theirs in others:
            print(f"  {row.get('pid') or row.get('id')}: true {row['answer']!r}, read {answer[:80]!r}: {ours}, theirs {theirs}")
        good = good and share >= LEAST
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
