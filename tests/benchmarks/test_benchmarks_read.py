"""The published files as they are, and what a file with other columns is told."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from PIL import Image

from visionr1.benchmarks.read import load_benchmark
from visionr1.benchmarks.sets import BENCHMARKS
from visionr1.data.badrow import BadRow
from visionr1.errors import BadInput

PNG = io.BytesIO()
Image.new("RGB", (30, 30), "white").save(PNG, "PNG")

ROWS: dict[str, dict[str, Any]] = {
    "mathvista": {
        "pid": "7",
        "question": "How long?",
        "image": "images/7.png",
        "choices": ["3", "4"],
        "unit": "cm",
        "precision": None,
        "answer": "4",
        "question_type": "multi_choice",
        "answer_type": "text",
        "metadata": {"task": "geometry problem solving", "skills": ["geometry reasoning"]},
        "query": "not used",
    },
    "mathverse": {
        "sample_index": "1",
        "problem_index": "1",
        "problem_version": "Vision Only",
        "question": "",
        "image": "images/7.png",
        "answer": "B",
        "question_type": "multi-choice",
    },
    "mm-math": {"question": "How many?", "file_name": "images/7.png", "solution": "Thus \\boxed{4}.", "year": "nine"},
    "mathvision": {
        "id": "7",
        "question": "How long?\n<image1>",
        "image": "images/7.png",
        "options": ["3", "4"],
        "answer": "B",
        "level": 2,
        "subject": "algebra",
    },
    "dynamath": {"question": "How long?", "answer": 4, "image": "images/7.png", "answer_type": "float", "subject": "algebra"},
    "we-math": {
        "ID": "2steps_1",
        "key": "2steps_1",
        "question": "How long?",
        "option": "A. 3; B. 4; E. No correct answer",
        "answer": "B",
        "image_path": "images/7.png",
    },
}
TRUTHS = {"mathvista": "4", "mathverse": "B", "mm-math": "4", "mathvision": "B", "dynamath": "4", "we-math": "B"}


def written(folder: Path, name: str, row: dict[str, Any]) -> Path:
    (folder / "images").mkdir(exist_ok=True)
    (folder / "images" / "7.png").write_bytes(PNG.getvalue())
    file = folder / f"{name}.jsonl"
    file.write_text(json.dumps(row) + "\n")
    return file


@pytest.mark.parametrize("name", list(BENCHMARKS))
def test_a_published_row_becomes_a_problem(tmp_path: Path, name: str) -> None:
    (problem,) = load_benchmark(BENCHMARKS[name], str(written(tmp_path, name, ROWS[name])))
    assert problem.row.answer == TRUTHS[name]
    assert problem.row.images == (PNG.getvalue(),)
    assert problem.row.problem.count("<image>") == 1
    assert "{" not in problem.row.problem.replace("\\boxed{}", "")


def test_options_are_listed_with_their_letters(tmp_path: Path) -> None:
    (problem,) = load_benchmark(BENCHMARKS["mathvista"], str(written(tmp_path, "mathvista", ROWS["mathvista"])))
    assert "How long? (unit: cm)\n(A) 3\n(B) 4\n" in problem.row.problem
    free = ROWS["mathvista"] | {"choices": None, "question_type": "free_form", "answer_type": "integer"}
    (problem,) = load_benchmark(BENCHMARKS["mathvista"], str(written(tmp_path, "mathvista", free)))
    assert "(A)" not in problem.row.problem
    assert "{options}" not in problem.row.problem


def test_pictures_inside_a_parquet_file_are_read(tmp_path: Path) -> None:
    row = ROWS["mathvision"] | {"decoded_image": {"bytes": PNG.getvalue(), "path": None}}
    Dataset.from_list([row]).to_parquet(str(tmp_path / "test.parquet"))
    (problem,) = load_benchmark(BENCHMARKS["mathvision"], str(tmp_path / "test.parquet"))
    assert problem.row.images == (PNG.getvalue(),)


def test_mathvista_as_one_object_of_objects_is_read(tmp_path: Path) -> None:
    written(tmp_path, "mathvista", ROWS["mathvista"])
    (tmp_path / "testmini.json").write_text(json.dumps({"7": ROWS["mathvista"]}))
    assert load_benchmark(BENCHMARKS["mathvista"], str(tmp_path / "testmini.json"))[0].row.id == "testmini.json#7"


@pytest.mark.parametrize("name", list(BENCHMARKS))
def test_a_missing_column_is_named_in_one_line(tmp_path: Path, name: str) -> None:
    row = {"the_question" if key == "question" else key: value for key, value in ROWS[name].items()}
    with pytest.raises(
        BadInput, match="has no column 'question', which .* has; it has only .*'the_question' the question"
    ) as caught:
        load_benchmark(BENCHMARKS[name], str(written(tmp_path, name, row)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("mathvision", {"answer": "F"}, "the answer 'F' is none of the 2 options"),
        ("mathvision", {"options": [1, 2]}, "options is a list with something else than texts in it"),
        ("mathvision", {"answer": 4}, "answer is a number, which is no text"),
        ("mathvista", {"choices": None}, "a multiple choice without choices"),
        ("mathvista", {"precision": float("nan"), "answer_type": "float"}, "the precision is no number"),
        ("we-math", {"key": "steps_1"}, "key is 'steps_1', which does not begin like 2steps_"),
        ("we-math", {"key": "²steps_1"}, "which does not begin like 2steps_"),
        ("mm-math", {"solution": "4"}, "the solution has no"),
        ("mathverse", {"answer": None}, "answer is missing"),
        ("we-math", {"image_path": "../7.png"}, "leads out of"),
        ("dynamath", {"image": "images/8.png"}, "no file images/8.png"),
    ],
)
def test_a_damaged_row_says_what_is_wrong(tmp_path: Path, name: str, change: dict[str, Any], message: str) -> None:
    problems = load_benchmark(BENCHMARKS[name], str(written(tmp_path, name, ROWS[name] | change)))
    with pytest.raises(BadRow, match=message):
        problems[0]


def test_text_that_looks_like_a_field_or_an_image_stays_text(tmp_path: Path) -> None:
    row = ROWS["mm-math"] | {"question": "What is {options} <image> here?"}
    (problem,) = load_benchmark(BENCHMARKS["mm-math"], str(written(tmp_path, "mm-math", row)))
    assert problem.row.problem.count("<image>") == 1
    assert "{options}" in problem.row.problem


def test_all_variants_of_dynamath_are_read_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "DynaMath/DynaMath_Sample/data"
    folder.mkdir(parents=True)
    for variant in range(1, 11):
        row = {"id": "1", "question": f"Variant {variant}?", "decoded_image": {"bytes": PNG.getvalue(), "path": None}}
        Dataset.from_list([row | {"ground_truth": "4", "answer_type": "float"}]).to_parquet(str(folder / f"v{variant}.parquet"))
    files = ", ".join(f"{{split: sample_variant{number}, path: data/v{number}.parquet}}" for number in range(1, 11))
    (folder.parent / "README.md").write_text(f"---\nconfigs: [{{config_name: default, data_files: [{files}]}}]\n---\n")
    # `datasets` takes a folder for a repository of the same name; the hub itself cannot be reached from tests.
    monkeypatch.chdir(tmp_path)
    problems = load_benchmark(BENCHMARKS["dynamath"], None)
    assert [problem.question.split("?")[0] for problem in problems] == [f"Variant {number}" for number in range(1, 11)]
    assert len({problem.row.id for problem in problems}) == 10
