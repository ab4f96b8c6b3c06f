"""The options of a multiple choice, in the layouts of public data sets."""

import json
from pathlib import Path

import pytest

from visionr1.data.fingerprint import digest
from visionr1.data.options import read_options
from visionr1.data.readers import load_problems
from visionr1.data.rows import Row
from visionr1.recipe.source import Source

LENGTHS = ("3 cm", "4 cm", "No correct answer")


@pytest.mark.parametrize(
    "cell",
    [
        list(LENGTHS),
        ["A. 3 cm", "B. 4 cm", "C. No correct answer"],
        ["(A) 3 cm", "(B) 4 cm", "(C) No correct answer"],
        {"A": "3 cm", "B": "4 cm", "C": "No correct answer"},
        "A. 3 cm; B. 4 cm; C. No correct answer",
        "A. 3 cm\nB. 4 cm\nC. No correct answer",
        "A. 3 cm B. 4 cm C. No correct answer",
        "(A) 3 cm (B) 4 cm (C) No correct answer",
        "A、3 cm；B、4 cm；C、No correct answer",
    ],
)
def test_options_are_read_in_each_layout(cell: object) -> None:
    assert read_options(cell) == LENGTHS


@pytest.mark.parametrize("cell", [None, [], ["only one"], "", "no labels here", 5, [None, "a"], {"x": "a", "y": "b"}, ["a"] * 11])
def test_what_is_no_row_of_options_is_none(cell: object) -> None:
    assert read_options(cell) == ()


def test_texts_keep_their_own_letters_and_semicolons_part_first() -> None:
    assert read_options("A. $(C, A, B)$; B. $(C, B, A)$") == ("$(C, A, B)$", "$(C, B, A)$")
    assert read_options(["A", "B", "C"]) == ("A", "B", "C")
    assert read_options(["(B)", "(A)"]) == ("(B)", "(A)")
    assert read_options([1, 2.5]) == ("1", "2.5")


@pytest.mark.parametrize("column", ["options", "choices"])
def test_a_row_has_the_options_of_its_data(tmp_path: Path, column: str) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [{"problem": "How long?", "answer": "B", column: list(LENGTHS)}, {"problem": "How?", "answer": "5", column: None}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [row.options for row in load_problems(Source(path=str(file)))] == [LENGTHS, ()]


def test_options_are_part_of_what_a_run_was_trained_on() -> None:
    plain = Row("r", "How long?", (), "B")
    assert digest(plain) != digest(Row("r", "How long?", (), "B", LENGTHS))
    assert digest(plain) == digest(Row("r", "How long?", (), "B", ()))
