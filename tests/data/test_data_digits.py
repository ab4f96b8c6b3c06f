"""The demo's problems: real scans, two disjoint splits, right answers, the same at every call."""

import io
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from visionr1.data import digits
from visionr1.errors import BadInput


def test_no_scan_is_in_both_splits_and_every_scan_is_in_one() -> None:
    train = {ink.tobytes() for ink in digits.scans("train")[0]}
    held_out = {ink.tobytes() for ink in digits.scans("held-out")[0]}
    assert not train & held_out
    assert (len(digits.scans("train")[1]), len(digits.scans("held-out")[1])) == (1497, 300)


def test_held_out_scans_hold_every_digit_alike() -> None:
    counts = np.bincount(digits.scans("held-out")[1])
    assert len(counts) == 10
    assert counts.min() >= 28


@pytest.mark.parametrize("split", ["train", "held-out"])
def test_rows_are_the_same_at_every_call_and_differ_from_each_other(split: str) -> None:
    rows = digits.problems(split)[:40]
    assert rows == [digits.problems(split)[index] for index in range(40)]
    assert len({row.id for row in rows}) == 40
    assert len({row.images for row in rows}) == 40
    assert rows[3] != digits.problems(split, seed=1)[3]


def test_indices_behave_like_a_sequence() -> None:
    rows = digits.problems("held-out")
    assert len(rows) == 512
    assert rows[-1] == rows[511]
    with pytest.raises(IndexError):
        rows[512]


def test_every_kind_of_question_comes_with_two_and_three_digits() -> None:
    rows = digits.problems("train")[:300]
    widths = {Image.open(io.BytesIO(row.images[0])).size for row in rows}
    assert widths == {(112, 56), (168, 56)}
    assert {row.problem for row in rows} == {"<image>" + kind.question for kind in digits.KINDS.values()}


@pytest.mark.parametrize(
    ("kind", "shown", "answer", "working"),
    [
        ("sum", [3, 5], 8, "3+5=8."),
        ("sum", [9, 9, 9], 27, "9+9+9=27."),
        ("difference", [3, 5], 2, "5-3=2."),
        ("largest", [3, 5, 4], 5, "Largest 5."),
        ("smallest", [3, 5, 4], 3, "Smallest 3."),
        ("odd", [3, 5, 4], 2, "Odd 2."),
        ("odd", [2, 0], 0, "Odd 0."),
        ("add 4 times", [3, 5], 23, "4: 3+5=8. 3: 8+5=13. 2: 13+5=18. 1: 18+5=23."),
        (
            "add 8 times",
            [9, 1],
            17,
            "8: 9+1=10. 7: 10+1=11. 6: 11+1=12. 5: 12+1=13. 4: 13+1=14. 3: 14+1=15. 2: 15+1=16. 1: 16+1=17.",
        ),
    ],
)
def test_answers_and_workings(kind: str, shown: list[int], answer: int, working: str) -> None:
    assert digits.KINDS[kind].answer(shown) == answer
    assert digits.KINDS[kind].working(shown, answer) == working


@pytest.mark.parametrize("split", ["train", "held-out"])
def test_a_quarter_of_the_problems_asks_for_several_steps_that_cannot_be_left_out(split: str) -> None:
    rows = digits.problems(split)[:400]
    hard = [row for row in rows if "times" in row.problem]
    assert {Image.open(io.BytesIO(row.images[0])).size for row in hard} == {(112, 56)}
    assert 0.22 < len(hard) / len(rows) < 0.34
    for row in hard:
        assert "the right digit" in row.problem and int(row.answer) >= 4, (
            "a right digit of 0 would make every number of steps right"
        )


def test_held_out_pictures_are_plain_scans_and_train_pictures_are_not() -> None:
    ink = digits.scans("train")[0][0]
    plain = np.asarray(digits.draw(ink[None]))
    assert (plain == np.asarray(digits.draw(ink[None]))).all()
    distorted = np.asarray(digits.draw(ink[None], np.random.default_rng(0)))
    assert 2 < np.abs(plain.astype(int) - distorted).mean() < 60


def test_a_drawn_digit_keeps_its_shape() -> None:
    ink = digits.scans("held-out")[0][7]
    drawn = 255 - np.asarray(digits.draw(ink[None]).convert("L").resize((8, 8), box=(3, 3, 53, 53))).astype(float)
    assert np.corrcoef(drawn.ravel(), ink.ravel())[0, 1] > 0.95


def test_captions_name_the_places() -> None:
    assert digits.caption([3, 5]) == "Left 3. Right 5."
    assert digits.caption([3, 1, 5]) == "Left 3. Middle 1. Right 5."


def test_an_unknown_split_is_one_clear_line() -> None:
    with pytest.raises(BadInput, match=re.escape("demo://digits/held-out")):
        digits.problems("test")


def test_export_writes_geometry3k_rows(tmp_path: Path) -> None:
    table = pq.read_table(digits.export("held-out", tmp_path / "new", 5)).to_pylist()
    assert [(row["problem"], row["answer"]) for row in table] == [
        (row.problem, row.answer) for row in digits.problems("held-out")[:5]
    ]
    assert Image.open(io.BytesIO(table[0]["images"][0]["bytes"])).height == 56
