"""Files in the exact forms that other projects publish, read with the columns that docs/data.md gives for them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from visionr1.data.badrow import BadRow
from visionr1.data.readers import load_problems, load_samples
from visionr1.data.rows import Row, Sample
from visionr1.errors import BadInput
from visionr1.recipe.source import Columns, Source

PAGE = (Path(__file__).parents[2] / "docs/data.md").read_text()
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
MESSAGES = pa.list_(pa.struct([("content", pa.string()), ("role", pa.string())]))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("hf"))


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (30, 30), "red").save(buffer, "PNG")
    return buffer.getvalue()


PICTURE = picture()


def documented(name: str) -> Columns | None:
    """The columns that the page's table gives for the files of a project."""
    section = PAGE.split("\n## Files of other projects\n")[1].split("\n## ")[0]
    (row,) = [line for line in section.splitlines() if line.startswith(f"| {name} |")]
    text = row.strip("|").split("|")[-1].strip().strip("`")
    return Columns(**yaml.safe_load(text)) if text.startswith("{") else None


def lines(file: Path, *rows: dict[str, Any]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def easyr1(folder: Path) -> Path:
    schema = pa.schema([("images", pa.list_(IMAGE)), ("problem", pa.string()), ("answer", pa.string())])
    row = {"images": [{"bytes": PICTURE, "path": None}], "problem": "<image>How many?", "answer": "3"}
    pq.write_table(pa.Table.from_pylist([row], schema), folder / "train.parquet")
    return folder / "train.parquet"


def verl(folder: Path) -> Path:
    schema = pa.schema(
        [
            ("data_source", pa.string()),
            ("prompt", MESSAGES),
            ("images", pa.list_(IMAGE)),
            ("ability", pa.string()),
            ("reward_model", pa.struct([("ground_truth", pa.string()), ("style", pa.string())])),
            ("extra_info", pa.struct([("answer", pa.string()), ("index", pa.int64()), ("question", pa.string())])),
        ]
    )
    row = {
        "data_source": "hiyouga/geometry3k",
        "prompt": [{"content": "<image>How many?", "role": "user"}],
        "images": [{"bytes": PICTURE, "path": None}],
        "ability": "math",
        "reward_model": {"ground_truth": "3", "style": "rule"},
        "extra_info": {"answer": "3", "index": 0, "question": "<image>How many?"},
    }
    pq.write_table(pa.Table.from_pylist([row], schema), folder / "train.parquet")
    return folder / "train.parquet"


def verl_with_paths(folder: Path) -> Path:
    (folder / "a.png").write_bytes(PICTURE)
    images = [{"image": f"file://{folder}/a.png"}]
    prompt = [{"role": "system", "content": "You are careful."}, {"role": "user", "content": "<image>How many?"}]
    return lines(folder / "t.jsonl", {"prompt": prompt, "images": images, "reward_model": {"style": "rule", "ground_truth": "3"}})


def swift(folder: Path) -> Path:
    (folder / "a.png").write_bytes(PICTURE)
    messages = [{"role": "system", "content": "Think."}, {"role": "user", "content": "<image>How many?"}]
    return lines(folder / "t.jsonl", {"messages": messages, "images": ["a.png"], "solution": "<answer> 3 </answer>"})


def open_r1(folder: Path) -> Path:
    row = {
        "image": {"bytes": PICTURE, "path": "0.png"},
        "problem": "How many?",
        "solution": "<think>\nOne, two, three.\n</think>\n\n<answer>\n3\n</answer>",
        "original_question": "How many?",
        "original_answer": "3",
    }
    schema = pa.schema([("image", IMAGE), *((name, pa.string()) for name in row if name != "image")])
    pq.write_table(pa.Table.from_pylist([row], schema), folder / "train.parquet")
    return folder / "train.parquet"


def mathvista(folder: Path) -> Path:
    row = {
        "pid": "1",
        "question": "How many?",
        "image": "images/1.jpg",
        "decoded_image": {"bytes": PICTURE, "path": "1.jpg"},
        "choices": ["2", "3"],
        "unit": None,
        "precision": None,
        "answer": "3",
        "question_type": "multi_choice",
        "query": "How many?",
    }
    types = {"decoded_image": IMAGE, "choices": pa.list_(pa.string()), "precision": pa.float64()}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in row])
    pq.write_table(pa.Table.from_pylist([row], schema), folder / "testmini.parquet")
    return folder / "testmini.parquet"


def mathvista_json(folder: Path) -> Path:
    (folder / "images").mkdir()
    (folder / "images/1.jpg").write_bytes(PICTURE)
    row = {"question": "How many?", "query": "How many?", "image": "images/1.jpg", "choices": None, "answer": "3"}
    (folder / "testmini.json").write_text(json.dumps({"1": row, "2": row}, indent=4))
    return folder / "testmini.json"


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("EasyR1", easyr1),
        ("verl", verl),
        ("verl", verl_with_paths),
        ("ms-swift, GRPO", swift),
        ("open-r1 multimodal", open_r1),
        ("MathVista, parquet", mathvista),
        ("MathVista, `testmini.json`", mathvista_json),
    ],
)
def test_problems_of_other_projects_are_read_as_they_are(tmp_path: Path, name: str, make: Callable[[Path], Path]) -> None:
    row = load_problems(Source(path=str(make(tmp_path)), columns=documented(name)))[0]
    options = ("2", "3") if make is mathvista else ()
    assert row == Row(row.id, "<image>How many?", (PICTURE,), "3", options)


RESPONSE = "<think>One, two, three.</think><answer>3</answer>"


def swift_messages(folder: Path) -> Path:
    (folder / "a.png").write_bytes(PICTURE)
    messages = [
        {"role": "system", "content": "Think."},
        {"role": "user", "content": "<image>How many?"},
        {"role": "assistant", "content": RESPONSE},
    ]
    return lines(folder / "t.jsonl", {"messages": messages, "images": ["a.png"]})


def swift_parts(folder: Path) -> Path:
    (folder / "a.png").write_bytes(PICTURE)
    parts = [{"type": "image"}, {"type": "text", "text": "How many?"}]
    messages = [{"role": "user", "content": parts}, {"role": "assistant", "content": RESPONSE}]
    return lines(folder / "t.jsonl", {"messages": messages, "images": ["a.png"]})


def swift_query(folder: Path) -> Path:
    (folder / "a.png").write_bytes(PICTURE)
    return lines(folder / "t.jsonl", {"query": "<image>How many?", "response": RESPONSE, "images": ["a.png"], "history": []})


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("ms-swift, SFT with `messages`", swift_messages),
        ("ms-swift, SFT with `messages`", swift_parts),
        ("ms-swift, SFT with `query`", swift_query),
    ],
)
def test_chains_of_thought_of_other_projects_are_read_as_they_are(
    tmp_path: Path, name: str, make: Callable[[Path], Path]
) -> None:
    sample = load_samples(Source(path=str(make(tmp_path)), columns=documented(name)))[0]
    assert sample == Sample(sample.id, "<image>How many?", (PICTURE,), RESPONSE)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"problem": "query", "answer": "labl"}, r"columns.answer: t.jsonl has no column 'labl', only 'query', 'label', 'meta'"),
        ({"problem": "query"}, r"t.jsonl has no column 'answer', only 'query', 'label', 'meta'"),
        ({"problem": "query", "answer": "meta.truth"}, r"has no 'meta.truth' in its column 'meta', only 'gold'"),
        ({"problem": "query", "answer": "label.truth"}, r"no 'label.truth' in its column 'label', and nothing with names"),
        ({"problem": "query", "answer": "label", "response": "meta"}, r"columns.response: nothing reads it here; name columns"),
    ],
)
def test_a_wrong_column_is_one_line_with_those_of_the_file(tmp_path: Path, columns: dict[str, str], said: str) -> None:
    file = lines(tmp_path / "t.jsonl", {"query": "?", "label": 3}, {"query": "?", "label": 3, "meta": {"gold": "3"}})
    with pytest.raises(BadInput, match=said) as caught:
        load_problems(Source(path=str(file), columns=Columns(**columns)))
    assert "\n" not in str(caught.value)
    good = Columns(problem="query", answer="meta.gold")
    assert load_problems(Source(path=str(file), columns=good))[1].answer == "3"


def test_a_named_column_that_a_row_lacks_is_a_bad_row(tmp_path: Path) -> None:
    file = lines(tmp_path / "t.jsonl", {"query": "?", "label": 3}, {"query": "?"}, {"query": [{"role": "tool"}], "label": 3})
    rows = load_problems(Source(path=str(file), columns=Columns(problem="query", answer="label")))
    for index, said in ((1, "the answer is missing"), (2, "the problem is a list")):
        with pytest.raises(BadRow, match=said):
            rows[index]


def test_problems_with_several_questions_or_answers_are_bad_rows(tmp_path: Path) -> None:
    asked = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}, {"role": "user", "content": "?"}]
    blocks = "<answer>1</answer><answer>2</answer>"
    rows = load_problems(
        Source(path=str(lines(tmp_path / "t.jsonl", {"problem": asked, "answer": 1}, {"problem": "?", "answer": blocks})))
    )
    for index, said in ((0, "the problem has 2 messages from the user"), (1, "the answer has 2 answer blocks")):
        with pytest.raises(BadRow, match=said):
            rows[index]


def test_images_without_marks_come_first_only_where_columns_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PICTURE)
    file = lines(tmp_path / "t.jsonl", {"problem": "?", "images": ["a.png", "a.png"], "answer": "1"})
    with pytest.raises(BadRow, match="0 <image> in the problem, 2 images"):
        load_problems(Source(path=str(file)))[0]
    assert load_problems(Source(path=str(file), columns=Columns(answer="answer")))[0].problem == "<image><image>?"


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"problem": "a", "answer": "a"}, "problem and answer are both read from 'a'"),
        ({"problem": ""}, "problem names no column"),
        ({"conversations": "a", "response": "b"}, "name either conversations, or problem and response"),
    ],
)
def test_columns_that_contradict_one_another_are_refused(columns: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Columns(**columns)


def test_rows_of_an_array_keep_their_places_whatever_is_between_them(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    rows = [{"problem": f"\u4e09\U0001f600 {place}?", "answer": place} for place in range(3)]
    text = " [\n" + " ,\r\n\t".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n ] \n"
    for start in (b"", b"\xef\xbb\xbf"):
        file.write_bytes(start + text.encode())
        assert [row.problem for row in load_problems(Source(path=str(file)))] == [row["problem"] for row in rows]


@pytest.mark.parametrize("text", ['{"problem": "?", "answer": "1"}', '{"rows": [1]}', "{}", "[]", "3", '"a"'])
def test_json_that_holds_no_rows_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "rows.json").write_text(text)
    with pytest.raises(BadInput, match="must be a JSON array of rows, not"):
        load_problems(Source(path=str(tmp_path / "rows.json")))


@pytest.mark.parametrize("text", ["", "[", "[{}", "[{},]", "[{}] x", "[{} {}]", '{"a" {}}', "[" * 100_000, "\x00"])
def test_damaged_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "rows.json").write_text(text)
    with pytest.raises(BadInput, match="is not JSON in UTF-8"):
        load_problems(Source(path=str(tmp_path / "rows.json")))
