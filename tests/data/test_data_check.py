from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from visionr1.data.badrow import BadRow
from visionr1.data.check import MAX_TEXT, check_problems
from visionr1.data.readers import Lazy, load_problems
from visionr1.data.rows import Row
from visionr1.errors import BadInput
from visionr1.recipe.source import Source

LIMITS: dict[str, Any] = {"min_pixels": 784, "max_pixels": 784 * 64, "max_prompt_tokens": 50}


def picture(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def words(row: Row) -> int:
    assert row.images == ()
    return len(row.problem.replace("<image>", "i ").split())


def rows_with(*rows: Row | BadRow) -> Lazy[Row]:
    def make(index: int) -> Row:
        row = rows[index]
        if isinstance(row, BadRow):
            raise row
        return row

    return Lazy(len(rows), make)


def test_each_bad_row_has_its_reason_and_good_rows_stay(png: bytes) -> None:
    rows = rows_with(
        Row("good", "<image>Two words", (png,), "1"),
        BadRow("broken", "row malformed", "not JSON"),
        Row("no answer", "<image>?", (png,), "  "),
        Row("nul", "a\0b", (), "1"),
        Row("surrogate", "?", (), "\ud800"),
        Row("novel", "x" * (MAX_TEXT + 1), (), "1"),
        Row("not an image", "<image>?", (b"GIF89a",), "1"),
        Row("strip", "<image>?", (picture(2000, 2),), "1"),
        Row("wordy", "word " * 51, (), "1"),
        Row("large", "<image>?", (picture(280, 140),), "1"),
        Row("text only", "one two three", (), "1"),
    )
    report = check_problems(rows, **LIMITS, count_prompt_tokens=words)
    assert report.good == [0, 10]
    assert [(note.index, note.id, note.kind) for note in report.bad] == [
        (1, "broken", "row malformed"),
        (2, "no answer", "answer missing"),
        (3, "nul", "text unusable"),
        (4, "surrogate", "text unusable"),
        (5, "novel", "text too long"),
        (6, "not an image", "image unreadable"),
        (7, "strip", "image size"),
        (8, "wordy", "prompt too long"),
        (9, "large", "prompt too long"),
    ]
    assert report.counts["text unusable"] == 2
    assert report.bad[-1].detail == "51 tokens, over 50"
    assert report.longest_prompt is not None
    assert report.longest_prompt.id == "good" and report.longest_prompt.tokens == 2 + 2


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("\frac{36}{13}", "a form feed before 'rac': a backslash was lost from \\frac"),
        ("\boxed{7}", "a backspace before 'oxed': a backslash was lost from \\boxed"),
        ("3\times 4", "a tab before 'imes': a backslash was lost from \\times"),
        ("x \neq 3", "a line end before 'eq': a backslash was lost from \\neq"),
        ("A \rightarrow B", "a carriage return before 'ightarrow': a backslash was lost from \\rightarrow"),
        ("5 \textit{cm}", "a tab before 'extit': a backslash was lost from \\textit"),
        ("A \top B", "a tab before 'op': a backslash was lost from \\top"),
        ("x \not= 3", "a line end before 'ot': a backslash was lost from \\not"),
        ("\right)", "a carriage return before 'ight': a backslash was lost from \\right"),
    ],
)
def test_a_text_whose_backslashes_json_has_eaten_is_left_out_with_the_remedy(text: str, detail: str) -> None:
    report = check_problems([Row("bad", f"What is {text}?", (), "1"), Row("worse", "What?", (), text)], **LIMITS)
    assert [(note.kind, note.detail) for note in report.bad] == [
        ("text damaged", f"the problem has {detail}"),
        ("text damaged", f"the answer has {detail}"),
    ]
    assert "two backslashes" in report.bad[0].remedy


@pytest.mark.parametrize(
    "text", ["a\tb", "first\nequal", "so\nexists", "a\ne = 3", "a\ni + 1", "x\ttan", "first\n\nneq", "x\r\ny", "\\frac{1}{2}"]
)
def test_tabs_and_line_ends_that_are_meant_are_no_damage(text: str) -> None:
    assert check_problems([Row("good", text, (), text)], **LIMITS).good == [0]


@pytest.mark.parametrize("answer", ["\\frac{1}{", "{1, 2", "1}", "\\sqrt{2}}"])
def test_an_answer_that_nothing_can_equal_is_left_out(answer: str) -> None:
    report = check_problems([Row("bad", "What?", (), answer), Row("good", "What?", (), "\\{1, 2\\}")], **LIMITS)
    assert [(note.index, note.kind) for note in report.bad] == [(0, "answer unreadable")]
    assert report.bad[0].detail.startswith("the answer has a ")


def test_image_tokens_count_after_fitting() -> None:
    rows = rows_with(Row("a", "<image>one", (picture(1000, 1000),), "1"))
    limits = LIMITS | {"max_prompt_tokens": 65}
    with_text = check_problems(rows, **limits, count_prompt_tokens=words).longest_prompt
    pictures_only = check_problems(rows, **limits).longest_prompt
    assert with_text is not None and with_text.tokens == 65
    assert pictures_only is not None and pictures_only.tokens == 64


def test_the_report_is_json_and_a_readable_table(png: bytes) -> None:
    report = check_problems(rows_with(Row("a", "<image>?", (png,), "1"), Row("b", "<image>?", (b"",), "1")), **LIMITS)
    stored = json.loads(json.dumps(report.to_json()))
    assert stored["counts"] == {"image unreadable": 1}
    assert stored["bad"][0]["remedy"].startswith("replace the image")
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(report.table())
    text = console.export_text()
    assert "1 of 2 rows are good; longest prompt 2 tokens (a)" in text
    assert "b: not a known image, 0 bytes" in text and "replace the image" in text


def test_the_fingerprint_is_that_of_the_good_rows(png: bytes) -> None:
    a, b = Row("a", "<image>?", (png,), "1"), Row("b", "?", (), "2")
    broken = BadRow("x", "row malformed", "not JSON")
    assert check_problems(rows_with(a, broken, b), **LIMITS).fingerprint == check_problems(rows_with(a, b), **LIMITS).fingerprint
    assert check_problems(rows_with(b, a), **LIMITS).fingerprint != check_problems(rows_with(a, b), **LIMITS).fingerprint


def test_no_usable_row_is_refused_with_the_reason() -> None:
    report = check_problems(rows_with(Row("a", "<image>?", (b"",), "1")), **LIMITS)
    with pytest.raises(BadInput, match=r"none of the 1 rows can be used \(1 x image unreadable\); the first: a: not a known"):
        report.usable()


def test_errors_of_the_place_are_not_taken_for_bad_rows() -> None:
    def lost(index: int) -> Row:
        raise ConnectionError("storage is gone")

    with pytest.raises(ConnectionError):
        check_problems(Lazy(3, lost), **LIMITS)


def test_the_real_geometry3k_rows_are_all_good(geometry3k: Path) -> None:
    rows = load_problems(Source(path=str(geometry3k / "problems.jsonl")))
    report = check_problems(rows, min_pixels=262_144, max_pixels=4_194_304, max_prompt_tokens=2048, count_prompt_tokens=words)
    assert report.usable() == list(range(10)) and not report.bad
    assert report.longest_prompt is not None and report.longest_prompt.tokens > 262_144 / 784


def test_ten_thousand_rows_take_seconds(png: bytes) -> None:
    rows = Lazy(10_000, lambda index: Row(str(index), f"<image>{index}?", (png,), "1"))
    assert len(check_problems(rows, **LIMITS).good) == 10_000
