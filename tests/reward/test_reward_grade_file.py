"""`visionr1 grade FILE.jsonl`."""

import json
from pathlib import Path
from typing import Any

import pytest

from visionr1.errors import BadInput
from visionr1.recipe.reward import Reward
from visionr1.reward.grade_file import FileGrades, grade_file


def row(response: str, answer: str) -> bytes:
    return json.dumps({"response": response, "answer": answer, "other": 1}).encode()


def graded(path: Path, data: bytes, function: str = "hfrrf") -> tuple[FileGrades, list[dict[str, Any]]]:
    path.write_bytes(data)
    written: list[str] = []
    return grade_file(path, Reward(function=function, processes=1), written.append), [json.loads(line) for line in written]


def test_rows_are_graded_in_order_with_line_numbers(tmp_path: Path) -> None:
    lines = [
        row("<think>a</think><answer> Final Answer:72° </answer>", "72"),
        b"",
        row("<think>a</think><answer>3 or 5</answer>", "3"),
        row("<think>a", "3"),
    ]
    result, written = graded(tmp_path / "rows.jsonl", b"\n".join(lines))
    assert written == [
        {"line": 1, "overall": 1.0, "format": 1.0, "accuracy": 1.0, "answer": "72°", "reason": "right", "rule": "unit"},
        {"line": 3, "overall": 0.0, "format": 1.0, "accuracy": 0.0, "answer": "3 or 5", "reason": "wrong answer", "rule": "list"},
        {"line": 4, "overall": 0.0, "format": 0.0, "accuracy": 0.0, "answer": None, "reason": "format: no </think>", "rule": ""},
    ]
    assert (result.rows, result.bad_lines) == (3, [])
    assert result.overall == pytest.approx(1 / 3)
    assert result.format == pytest.approx(2 / 3)


def test_options_count_and_each_verdict_names_its_rule(tmp_path: Path) -> None:
    options: list[object] = ["A. 3 cm; B. 4 cm; C. 5 cm", ["3 cm", "4 cm"], {"A": "3 cm", "B": "4 cm"}]
    rows = [
        {"response": f"<think>a</think><answer>{answer}</answer>", "answer": "B", name: cell}
        for cell in options
        for name in ("options", "choices")
        for answer in ("4 cm", "B. 3 cm")
    ]
    _, written = graded(tmp_path / "rows.jsonl", b"\n".join(json.dumps(row).encode() for row in rows))
    assert [(line["overall"], line["rule"]) for line in written] == [(1.0, "option text"), (0.0, "letter and text")] * 6


def test_an_explanation_shows_both_sides_as_they_were_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join([row("<think>a</think><answer>**Answer**: 5 \\text{cm}\x1b</answer>", "x = 5"), row("hm", "{")]))
    written: list[str] = []
    grade_file(path, Reward(processes=1), written.append, explain=True)
    assert written == [
        "line 1: wrong answer (rule: name, algebra)\n"
        "  reward   0 = format 1, accuracy 0\n"
        "  answer   5 \\text{cm}\\x1b\n"
        "  read as  5 cm \\x1b\n"
        "  truth    x = 5\n"
        "  read as  x = 5",
        "line 2: format: no <think>\n  reward   0 = format 0, accuracy 0\n  answer   none was found\n  truth    {\n  read as  {",
    ]


def test_each_bad_line_is_named_once_and_the_others_are_graded(tmp_path: Path) -> None:
    good = row("<think>a</think><answer>5</answer>", "5")
    bad = {
        b"not json": "not JSON: ",
        b"[1, 2]": "not a JSON object with response and answer",
        b'{"response": "a"}': "'answer' is missing",
        b'{"answer": "a"}': "'response' is missing",
        b'{"response": "a", "answer": 5}': "'answer' is not a string",
        b'{"response": null, "answer": "5"}': "'response' is not a string",
        b'{"response": "\xff", "answer": "5"}': "not UTF-8 text",
        b'{"response": "a"': "not JSON: ",
        b"[" * 100_000: "not JSON: ",
    }
    path = tmp_path / "rows.jsonl"
    result, written = graded(path, b"\n".join([good, *bad, good]))
    assert [line["line"] for line in written] == [1, len(bad) + 2]
    assert len(result.bad_lines) == len(bad)
    for number, (message, reported) in enumerate(zip(result.bad_lines, bad.values(), strict=True), start=2):
        assert message.startswith(f"{path}:{number}: {reported}")
        assert "\n" not in message


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    result, written = graded(tmp_path / "rows.jsonl", b"")
    assert (result.rows, result.overall, written) == (0, 0.0, [])


def test_zero_is_graded_too(tmp_path: Path) -> None:
    result, _ = graded(tmp_path / "rows.jsonl", row("<think>a</think><answer>6</answer>", "5"), "zero")
    assert (result.overall, result.format, result.accuracy) == (0.5, 1.0, 0.0)


def test_many_rows_pass_through_in_portions(tmp_path: Path) -> None:
    lines = [row(f"<think>a</think><answer>{n}</answer>", str(n % 7)) for n in range(2500)]
    result, written = graded(tmp_path / "rows.jsonl", b"\n".join(lines))
    assert (result.rows, written[-1]["line"]) == (2500, 2500)
    assert sum(line["overall"] for line in written) == 7


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"missing.jsonl: cannot be read: No such file or directory"):
        grade_file(tmp_path / "missing.jsonl", Reward(), print)
    with pytest.raises(BadInput, match="cannot be read: Is a directory"):
        grade_file(tmp_path, Reward(), print)
