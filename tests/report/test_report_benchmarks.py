"""Scores on published sets as tables: what cannot be compared never shares one."""

from typing import Any

from visionr1.report.benchmarks import benchmark_grids
from visionr1.report.paper import AVERAGES, PAPER, averages
from visionr1.rundir.benchmark_scores import BenchmarkScore, Conditions


def score(
    benchmark: str, scored: str, accuracy: float, figures: dict[str, float] | None = None, **changes: Any
) -> BenchmarkScore:
    conditions = {
        "title": benchmark,
        "split": "test",
        "fingerprint": "rows=10",
        "rule": "r, version 1",
        "strict_rule": "s, version 1",
        "limit": None,
        "system_prompt": None,
        "judge": None,
        "prompt": "p",
        "temperature": 0.6,
        "top_p": 0.95,
        "max_completion_tokens": 16000,
        "samples": 1,
        "seed": 1,
        "min_pixels": 784,
        "max_pixels": 50176,
    }
    return BenchmarkScore(
        benchmark=benchmark,
        scored=scored,
        step=0,
        conditions=Conditions(**(conditions | changes)),
        made_with={},
        labelled="rule",
        accuracy=accuracy,
        strict_accuracy=accuracy,
        figures=figures or {},
        problems=10,
        expected_problems=(10,),
        samples=1,
        completion_tokens_mean=5.0,
        truncated_ratio=0.0,
        prompt_tokens=1,
        completion_tokens=1,
        judge_tokens=0,
        seconds=1.0,
        unanswered=1,
        unjudged=0,
        seen=["a: b"],
        dropped=0,
        skipped=[],
    )


def test_models_with_the_same_conditions_share_a_table_and_others_do_not() -> None:
    same = benchmark_grids([score("mathvista", "sft", 0.5), score("mathvista", "stage-1", 0.6)])
    assert [[row[0] for row in grid.rows] for grid in same[:1]] == [["sft", "stage-1"]]
    assert same[0].notes[-1].startswith("stage-1: 1 problems are in the training data; 1 replies are missing")
    other = benchmark_grids([score("mathvista", "sft", 0.5), score("mathvista", "stage-1", 0.6, fingerprint="rows=5")])
    assert [[row[0] for row in grid.rows] for grid in other] == [["sft"], ["stage-1"]]


def test_the_papers_numbers_stand_beside_with_the_averages_that_are_complete() -> None:
    scores = [
        score(name, "mine", 0.5, {"Vision Only": 0.25} if name == "mathverse" else None) for name in AVERAGES["average of 4"]
    ]
    beside = benchmark_grids(scores)[-1]
    assert beside.header == ["model", "mathvista", "mathverse", "mm-math", "dynamath", *AVERAGES]
    rows = {row[0]: row[1:] for row in beside.rows}
    assert rows["mine"] == ["50.0", "50.0", "50.0", "50.0", "50.0", "50.0", "45.0"]
    assert rows["Vision-R1-7B (table 1)"][4:] == ["55.4", "55.6", "53.8"]
    assert rows["Vision-R1-CI (table 3)"][4] == "44.5"
    assert benchmark_grids([score("we-math", "mine", 0.5)])[-1].title.startswith("we-math")


def test_the_papers_averages_follow_from_its_columns() -> None:
    found = averages(PAPER["Qwen2.5-VL-7B (table 1)"])
    assert [round(found[name], 1) for name in ("average of 3", "average of 4")] == [49.6, 49.9]
