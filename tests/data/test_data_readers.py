from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer

from visionr1.data.badrow import BadRow
from visionr1.data.readers import load_problems, load_samples, select
from visionr1.errors import BadInput
from visionr1.recipe.source import Source

IMAGE_STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("hf"))


def problems(path: object, **settings: object) -> list[Any]:
    return list(load_problems(Source(path=str(path), **settings)))


def write_jsonl(file: Path, rows: list[object]) -> Path:
    file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return file


def write_parquet(file: Path, rows: list[dict[str, Any]], image_type: pa.DataType) -> Path:
    schema = pa.schema([("images", image_type), ("problem", pa.string()), ("answer", pa.string())])
    pq.write_table(pa.Table.from_pylist(rows, schema), file)
    return file


def bad_row(rows: Sequence[object], index: int) -> BadRow:
    with pytest.raises(BadRow) as caught:
        rows[index]
    return caught.value


def test_the_real_geometry3k_rows(geometry3k: Path) -> None:
    rows = load_problems(Source(path=str(geometry3k / "problems.jsonl")))
    assert len(rows) == 10
    assert rows[0].id == "problems.jsonl#0"
    assert rows[0].problem.startswith("<image>In $\\odot X")
    assert rows[0].answer == "D"
    assert rows[-1].images == ((geometry3k / "20.png").read_bytes(),)
    assert [row.id for row in problems(geometry3k, limit=3)] == [f"problems.jsonl#{n}" for n in range(3)]


def test_parquet_with_images_as_hugging_face_stores_them(tmp_path: Path, png: bytes) -> None:
    (tmp_path / "b.png").write_bytes(png)
    rows: list[dict[str, Any]] = [
        {"images": [{"bytes": png, "path": None}], "problem": "<image>One?", "answer": "1"},
        {
            "images": [{"bytes": None, "path": "b.png"}, {"bytes": png, "path": "gone.png"}],
            "problem": "<image><image>Two?",
            "answer": "2",
        },
        {"images": [], "problem": "Three?", "answer": "3"},
        {"images": None, "problem": "Four?", "answer": None},
    ]
    read = load_problems(Source(path=str(write_parquet(tmp_path / "rows.parquet", rows, pa.list_(IMAGE_STRUCT)))))
    assert [read[n].images for n in range(3)] == [(png,), (png, png), ()]
    assert bad_row(read, 3).kind == "answer missing"
    assert read[1].id == "rows.parquet#1"


@pytest.mark.parametrize("image_type", [IMAGE_STRUCT, pa.binary(), pa.list_(pa.binary())])
def test_parquet_with_other_image_columns(tmp_path: Path, png: bytes, image_type: pa.DataType) -> None:
    value = {"bytes": png, "path": None} if image_type == IMAGE_STRUCT else [png] if pa.types.is_list(image_type) else png
    file = write_parquet(tmp_path / "rows.parquet", [{"images": value, "problem": "<image>?", "answer": "1"}], image_type)
    assert problems(file)[0].images == (png,)


def test_json_array_with_question_and_numbers(tmp_path: Path, png: bytes) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/a.png").write_bytes(png)
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([{"image": "a.png", "question": "<image>How many?", "answer": 3}]))
    (row,) = problems(file, image_root=str(tmp_path / "pictures"))
    assert (row.problem, row.answer, row.images) == ("<image>How many?", "3", (png,))


def test_a_directory_is_read_file_after_file(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "b.jsonl", [{"problem": f"b{n}", "answer": "1"} for n in range(2)])
    (tmp_path / "a.json").write_text(json.dumps([{"problem": "a0", "answer": "1"}]))
    write_parquet(tmp_path / "c.parquet", [{"images": None, "problem": "c0", "answer": "1"}], pa.list_(IMAGE_STRUCT))
    (tmp_path / "dataset_info.json").write_text("{}")
    assert [row.id for row in problems(tmp_path)] == ["a.json#0", "b.jsonl#0", "b.jsonl#1", "c.parquet#0"]


def test_a_directory_of_several_splits_is_refused(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_jsonl(tmp_path / f"{split}-00000-of-00001.jsonl", [{"problem": "?", "answer": "1"}])
    with pytest.raises(BadInput, match=r"several splits \(test, train\)"):
        problems(tmp_path)


def test_hugging_face_datasets_on_disk(tmp_path: Path, png: bytes) -> None:
    from datasets import Dataset, DatasetDict, Features, Image, Sequence, Value

    features = Features({"images": Sequence(Image()), "problem": Value("string"), "answer": Value("string")})
    rows = Dataset.from_dict({"images": [[{"bytes": png, "path": None}]], "problem": ["<image>?"], "answer": ["1"]}, features)
    DatasetDict({"train": rows}).save_to_disk(tmp_path / "saved")
    assert problems(tmp_path / "saved/train")[0].images == (png,)
    with pytest.raises(BadInput, match="has several splits; give one of its folders"):
        problems(tmp_path / "saved")


def test_hub_addresses_name_a_split(tmp_path: Path, png: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "owner/name/data"
    folder.mkdir(parents=True)
    (tmp_path / "a.png").write_bytes(png)
    for split, answer in (("train", "1"), ("test", "2")):
        row = {"images": [{"bytes": png, "path": None}], "problem": "<image>?", "answer": answer}
        named = {**row, "images": [{"bytes": None, "path": "a.png"}]}
        write_parquet(folder / f"{split}-00000-of-00001.parquet", [row, named], pa.list_(IMAGE_STRUCT))
    # `datasets` takes a folder for a repository of the same name; the hub itself cannot be reached from tests.
    monkeypatch.chdir(tmp_path)
    assert [row.answer for row in problems("hf://owner/name", limit=1)] == ["1"]
    assert [(row.id, row.answer) for row in problems("hf://owner/name@test", limit=1)] == [("owner/name@test#0", "2")]
    assert bad_row(load_problems(Source(path="hf://owner/name")), 1).kind == "image missing"
    assert problems("hf://owner/name", image_root=str(tmp_path))[1].images == (png,)
    (tmp_path / "owner/name/README.md").write_text(
        "---\nconfigs: [{config_name: easy, data_files: [{split: test, path: data/test-*}]}]\n---\n"
    )
    assert [(row.id, row.answer) for row in problems("hf://owner/name@easy/test", limit=1)] == [("owner/name@easy/test#0", "2")]
    with pytest.raises(BadInput, match="hf://owner/name@nope cannot be read"):
        problems("hf://owner/name@nope")


def test_demo_addresses() -> None:
    rows = load_problems(Source(path="demo://digits/held-out", limit=2))
    assert len(rows) == 2 and rows[0].problem.startswith("<image>")
    with pytest.raises(BadInput, match="no split"):
        problems("demo://digits/other")
    with pytest.raises(BadInput, match="demo has only digits"):
        problems("demo://letters/train")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL_S3": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="problems")
    yield client
    server.stop()


def test_s3_files_and_folders(bucket: Any, tmp_path: Path, png: bytes) -> None:
    row = {"image": "pictures/a.png", "problem": "<image>?", "answer": "1"}
    table = write_parquet(
        tmp_path / "t.parquet", [{"images": [{"bytes": png}], "problem": "<image>", "answer": "2"}], pa.list_(IMAGE_STRUCT)
    )
    bucket.put_object(
        Bucket="problems",
        Key="set/rows.jsonl",
        Body=json.dumps(row).encode() + b"\n" + json.dumps({**row, "image": "../x"}).encode(),
    )
    bucket.put_object(Bucket="problems", Key="set/pictures/a.png", Body=png)
    bucket.put_object(Bucket="problems", Key="set/t.parquet", Body=table.read_bytes())
    read = load_problems(Source(path="s3://problems/set/rows.jsonl"))
    assert read[0].images == (png,)
    assert bad_row(read, 1).kind == "image path"
    folder = load_problems(Source(path="s3://problems/set/"))
    assert (len(folder), folder[2].images, folder[2].id) == (3, (png,), "t.parquet#0")
    with pytest.raises(BadInput, match="s3://problems/set/none.jsonl does not exist"):
        problems("s3://problems/set/none.jsonl")


def test_a_damaged_row_leaves_its_neighbours_alone(tmp_path: Path, png: bytes) -> None:
    (tmp_path / "a.png").write_bytes(png)
    good = {"image": "a.png", "problem": "<image>?", "answer": "1"}
    damaged = {
        "{broken": "row malformed",
        "[1, 2]": "row malformed",
        "[" * 100_000: "row malformed",
        json.dumps({**good, "problem": None}): "row malformed",
        json.dumps({**good, "answer": None}): "answer missing",
        json.dumps({**good, "answer": True}): "row malformed",
        json.dumps({**good, "answer": ["1"]}): "row malformed",
        json.dumps({**good, "image": 7}): "row malformed",
        json.dumps({**good, "image": "a\0.png"}): "row malformed",
        json.dumps({**good, "image": "\ud800.png"}): "row malformed",
        json.dumps({**good, "image": "none.png"}): "image missing",
        json.dumps({**good, "image": "x" * 5000}): "image missing",
        json.dumps({**good, "image": "."}): "image missing",
        json.dumps({**good, "problem": "no mark"}): "image marks",
        json.dumps({**good, "problem": "<image><image>"}): "image marks",
        json.dumps({"problem": "<image> without one", "answer": "1"}): "image marks",
    }
    rows = load_problems(Source(path=str(write_jsonl(tmp_path / "rows.jsonl", [good, *damaged, good]))))
    assert len(rows) == len(damaged) + 2
    assert rows[0].answer == rows[-1].answer == "1"
    for place, kind in enumerate(damaged.values(), start=1):
        error = bad_row(rows, place)
        assert (error.kind, error.row_id) == (kind, f"rows.jsonl#{place}"), str(error)


def test_image_paths_stay_below_their_root(tmp_path: Path, png: bytes) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.png").write_bytes(png)
    (root / "inside.png").write_bytes(png)
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "loop.png").symlink_to(root / "loop.png")
    (root / "near.png").symlink_to(root / "inside.png")
    os.mkfifo(root / "pipe.png")
    paths = [
        "../secret.png",
        str(tmp_path / "secret.png"),
        "link.png",
        "near.png",
        str(root / "inside.png"),
        "loop.png",
        "pipe.png",
    ]
    rows = load_problems(
        Source(
            path=str(write_jsonl(root / "rows.jsonl", [{"image": path, "problem": "<image>", "answer": "1"} for path in paths]))
        )
    )
    assert [bad_row(rows, n).kind for n in (0, 1, 2)] == ["image path"] * 3
    assert rows[3].images == rows[4].images == (png,)
    assert [bad_row(rows, n).kind for n in (5, 6)] == ["image missing"] * 2


@pytest.mark.parametrize(
    ("name", "content", "reported"),
    [
        (
            "rows.jsonl",
            '{"img": 1, "problems": "?", "answers": "x"}',
            "only 'img', 'problems', 'answers'; is 'problems' the problem",
        ),
        ("rows.jsonl", '{"problem": "?", "label": "x"}', "no column 'answer', only 'problem', 'label'"),
        ("rows.jsonl", "", "is empty"),
        ("rows.jsonl", "nonsense\nnonsense", "no readable row"),
        ("rows.json", "[]", "an empty one"),
        ("rows.json", '{"problem": "?"}', "not dict"),
        ("rows.json", '{"a": 1}\n{"a": 2}', "is it a .jsonl file"),
        ("rows.json", "[" * 100_000, "not JSON"),
        ("rows.parquet", "PAR1 but not really", "cannot be read"),
        ("rows.csv", "problem,answer", "cannot read .csv"),
        ("note.txt", "hello", "cannot read .txt"),
    ],
)
def test_files_that_cannot_be_problems_say_why(tmp_path: Path, name: str, content: str, reported: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(BadInput) as caught:
        problems(tmp_path / name)
    assert reported in str(caught.value) and "\n" not in str(caught.value)


def test_missing_places_say_so(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not exist"):
        problems(tmp_path / "none.jsonl")
    with pytest.raises(BadInput, match="has no .parquet"):
        problems(tmp_path)


def turns(user: str, assistant: str, question: str = "<image>Q?", answer: str | None = "A") -> list[dict[str, Any]]:
    return [{"from": user, "value": question}, {"from": assistant, "value": answer}]


def test_both_released_layouts_of_chains_of_thought(tmp_path: Path, png: bytes) -> None:
    (tmp_path / "llava_cot_images").mkdir()
    (tmp_path / "llava_cot_images/a.png").write_bytes(png)
    path = "llava_cot_images/a.png"
    (tmp_path / "vision_r1_llava_cot_full.json").write_text(
        json.dumps(
            [{"id": "x", "image": path, "conversations": turns("human", "gpt", answer="<think> t </think><answer> A </answer>")}]
        )
    )
    (tmp_path / "vision_r1_mulberry_sft_full.json").write_text(
        json.dumps(
            [
                {"images": path, "conversations": turns("user", "assistant")},
                {"images": [path], "conversations": turns("user", "assistant")},
            ]
        )
    )
    (tmp_path / "dataset_info.json").write_text('{"vision_r1_llava_cot_full": {}}')
    samples = load_samples(Source(path=str(tmp_path)))
    assert [sample.id for sample in samples] == [
        "vision_r1_llava_cot_full.json#0",
        "vision_r1_mulberry_sft_full.json#0",
        "vision_r1_mulberry_sft_full.json#1",
    ]
    assert samples[0].response == "<think> t </think><answer> A </answer>"
    assert all(sample.images == (png,) and sample.problem == "<image>Q?" for sample in samples)


@pytest.mark.parametrize(
    "conversations",
    [
        None,
        "text",
        [1, 2],
        turns("gpt", "human"),
        turns("human", "gpt") * 2,
        turns("human", "gpt")[:1],
        turns("human", "gpt", answer=None),
    ],
)
def test_other_conversations_are_bad_rows(tmp_path: Path, conversations: Any) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [{"conversations": conversations}])
    assert bad_row(load_samples(Source(path=str(tmp_path / "rows.jsonl"))), 0).kind == "row malformed"


def test_a_sample_without_its_mark_is_a_bad_row(tmp_path: Path, png: bytes) -> None:
    (tmp_path / "a.png").write_bytes(png)
    write_jsonl(tmp_path / "rows.jsonl", [{"image": "a.png", "conversations": turns("human", "gpt", question="Q?")}])
    assert bad_row(load_samples(Source(path=str(tmp_path / "rows.jsonl"))), 0).kind == "image marks"


def test_problems_given_as_samples_are_refused(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [{"problem": "?", "answer": "1"}])
    with pytest.raises(BadInput, match="no column 'conversations'"):
        load_samples(Source(path=str(tmp_path / "rows.jsonl")))


def test_selected_rows_are_read_when_asked_for(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [{"problem": "0", "answer": "1"}, "broken", {"problem": "2", "answer": "1"}])
    chosen = select(load_problems(Source(path=str(tmp_path / "rows.jsonl"))), [2, 0])
    assert [row.problem for row in chosen] == ["2", "0"]
    assert [row.problem for row in chosen[:1]] == ["2"]
    with pytest.raises(IndexError):
        chosen[2]
