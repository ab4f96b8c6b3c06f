"""Data sets as strangers write them: `visionr1 data check` finds all that a run could not use, and the rest is used and right."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile import bombs, encode, halves, png_of_zeros, problem, sample_rows, turns, usable_images, write_problems
from PIL import Image
from typer.testing import CliRunner, Result

from visionr1.cli import app
from visionr1.data.badrow import LONGEST_DETAIL, REMEDIES
from visionr1.data.images import MAX_IMAGE_PIXELS, fit, open_image
from visionr1.data.readers import load_problems
from visionr1.errors import BadInput
from visionr1.recipe.source import Source

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def hostile_set(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str | None]]:
    return write_problems(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("hf"))


def check(*words: str) -> Result:
    words = ("data", "check", "--recipe", "demo", "--set", "data.max_prompt_tokens=2000", "--tokenizer", *words)
    return CliRunner().invoke(app, list(words), catch_exceptions=False)


def test_the_command_lists_every_bad_row_and_ends_as_documented(hostile_set: tuple[Path, list[str | None]]) -> None:
    file, kinds = hostile_set
    words = ["data", "check", str(file), "--recipe", "demo"]
    done = subprocess.run([sys.executable, "-m", "visionr1.cli", *words], capture_output=True, text=True, cwd=ROOT)
    bad = [kind for kind in kinds if kind and kind != "prompt too long"]  # found with --tokenizer, see below
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    lines = done.stdout.splitlines()
    listed = [line for line in lines if line.startswith("rows.jsonl#")]
    assert [line.split(": ")[1] for line in listed] == bad
    assert lines[-1] == f"{file}: {len(kinds) - len(bad)} of {len(kinds)} rows are good, {len(bad)} are left out"
    assert "\x1b" not in done.stdout and max(map(len, listed)) < 2 * LONGEST_DETAIL
    assert all(line.startswith("checking problems: ") for line in done.stderr.splitlines()), done.stderr


def test_each_row_is_used_or_left_out_with_its_reason_and_remedy(hostile_set: tuple[Path, list[str | None]]) -> None:
    file, kinds = hostile_set
    result = check(str(file), "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    wrong = {note["index"]: note for note in found["bad"]}
    assert [wrong[index]["kind"] if index in wrong else None for index in range(len(kinds))] == kinds
    assert all(note["remedy"] == REMEDIES[note["kind"]] for note in found["bad"])
    assert all(note["detail"].isprintable() for note in found["bad"])
    assert {kind for kind in kinds if kind} == set(REMEDIES) - {"sample too long"}


def test_good_data_ends_with_zero_and_unreadable_data_with_64(tmp_path: Path) -> None:
    (tmp_path / "plain.png").write_bytes(encode(halves()))
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(problem()))
    result = check(str(file))
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, f"{file}: 1 of 1 rows are good, 0 are left out")
    assert check(str(tmp_path / "none.jsonl")).exit_code == 64


def test_usable_images_show_what_they_should() -> None:
    for name, data in usable_images().items():
        image = fit(open_image(data), 28 * 28, 56 * 56)
        assert image.mode == "RGB"
        red, blue = (10, image.height // 2), (image.width - 10, image.height // 2)
        if name == "pixel.png":
            assert (image.size, image.getpixel(red), image.getpixel(blue)) == ((28, 28), (250, 10, 10), (250, 10, 10))
            continue
        assert image.size == (56, 28), name
        pixels_HW3 = np.asarray(image).astype(int)
        for (x, y), colour in ((red, (250, 10, 10)), (blue, (10, 10, 250))):
            assert abs(pixels_HW3[y, x] - colour).max() < 12, name


MEASURE = """
import resource, sys
from pathlib import Path
from visionr1.data.images import BadImage, open_image
open_image(Path(sys.argv[1]).read_bytes())
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
for name in sys.argv[2:]:
    data, before = Path(name).read_bytes(), peak()
    try:
        size = open_image(data).size
    except BadImage:
        size = None
    print(Path(name).name, size, peak() - before)
"""


def memory(tmp_path: Path, images: dict[str, bytes]) -> dict[str, tuple[str, int]]:
    """What each image opened to, and by how many MiB the peak of a process that opens one after the other grew."""
    files = []
    for name, data in {"first.png": encode(Image.new("RGB", (8, 8))), **images}.items():
        (tmp_path / name).write_bytes(data)
        files.append(str(tmp_path / name))
    done = subprocess.run([sys.executable, "-c", MEASURE, *files], capture_output=True, text=True, cwd=ROOT, check=True)
    rows = (line.rsplit(" ", 1) for line in done.stdout.splitlines())
    return {head.split(" ", 1)[0]: (head.split(" ", 1)[1], int(grown)) for head, grown in rows}


def test_bombs_are_refused_and_take_no_memory(tmp_path: Path) -> None:
    for name, (size, grown) in memory(tmp_path, bombs()).items():
        assert size == "None" and grown < 100, (name, size, grown)


def test_the_largest_image_that_is_allowed_takes_a_bounded_amount(tmp_path: Path) -> None:
    side = int(MAX_IMAGE_PIXELS**0.5)
    (opened,) = memory(tmp_path, {"large.png": png_of_zeros(side, side)}).values()
    assert opened[0] == str((side, side))
    assert opened[1] < 700


def test_a_row_that_names_a_file_many_times_reads_it_never(hostile_set: tuple[Path, list[str | None]]) -> None:
    file, kinds = hostile_set
    rows = load_problems(Source(path=str(file)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for index, kind in enumerate(kinds):
        if kind == "image marks":
            with pytest.raises(BadInput, match="image marks"):
                rows[index]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10


def test_chains_of_thought_in_both_layouts_are_checked_the_same_way(hostile_set: tuple[Path, list[str | None]]) -> None:
    folder = hostile_set[0].parent
    cases = sample_rows()
    file = folder.parent / "samples.jsonl"
    file.write_bytes(b"\n".join(row if isinstance(row, bytes) else json.dumps(row).encode() for row, _ in cases))
    result = check(str(file), "--sft", "--image-root", str(folder), "--json")
    found = json.loads(result.stdout)
    wrong = {note["index"]: note["kind"] for note in found["bad"]}
    assert [wrong.get(index) for index in range(len(cases))] == [kind for _, kind in cases]
    assert result.exit_code == 1


def test_the_recipe_s_own_chains_of_thought_are_checked_too(hostile_set: tuple[Path, list[str | None]]) -> None:
    folder = hostile_set[0].parent
    file = folder / "vision_r1_llava_cot_full.json"
    file.write_text(json.dumps([{"image": "plain.png", "conversations": turns()}, {"image": "x", "conversations": turns()}]))
    words = ("data.train.limit=1", "data.held_out.limit=1", f"sft.data={{path: {file}}}")
    result = check(*(part for word in words for part in ("--set", word)), "--json")
    paths = {line["path"]: line["counts"] for line in map(json.loads, result.stdout.splitlines())}
    assert paths == {"demo://digits/train": {}, "demo://digits/held-out": {}, str(file): {"image missing": 1}}


def parquet(file: Path, **columns: pa.Array) -> Path:
    pq.write_table(pa.table(columns), file)
    return file


def text_that_is_not_utf8() -> pa.Array:
    return pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")])


def test_parquet_cells_that_cannot_be_read_are_bad_rows(tmp_path: Path) -> None:
    one = pa.array(["1"])
    for place, columns in enumerate(
        (
            {"problem": text_that_is_not_utf8(), "answer": one},
            {"problem": pa.array([5]), "answer": one},
            {"problem": pa.array([None], pa.null()), "answer": one},
            {"problem": pa.array([["?"]]), "answer": one},
            {"problem": pa.array([b"?"]), "answer": one},
            {"problem": one, "answer": pa.array([{"a": {"b": [None]}}])},
            {"problem": pa.array(["<image>"]), "image": pa.array([{"bytes": [1]}]), "answer": one},
            {"problem": pa.array(["<image>"]), "images": pa.array([[[None]]], pa.list_(pa.list_(pa.string()))), "answer": one},
        )
    ):
        result = check(str(parquet(tmp_path / f"{place}.parquet", **columns)), "--json")
        assert (result.exit_code, json.loads(result.stdout)["counts"]) == (1, {"row malformed": 1}), place


def damaged_parquets(folder: Path) -> dict[str, bytes]:
    good = parquet(folder / "good.parquet", problem=pa.array(["?"] * 50), answer=pa.array(["1"] * 50)).read_bytes()
    footer = good.index(b"ARROW:schema")
    return {
        "empty": b"",
        "half": good[: len(good) // 2],
        "head": good[:4],
        "footer": with_zeros(good, len(good) - 200, 150),
        "pages": with_zeros(good, 4, 40),
        "schema": with_zeros(good, footer + 20, 40),
        "size": good[:-8] + b"\xff\xff\xff\x7fPAR1",
        "text": b'{"problem": "?"}',
    }


def with_zeros(data: bytes, place: int, count: int) -> bytes:
    return data[:place] + bytes(count) + data[place + count :]


@pytest.mark.parametrize("name", ["empty", "half", "head", "footer", "pages", "schema", "size", "text"])
def test_damaged_parquet_files_are_one_line_and_never_tried_again(tmp_path: Path, name: str) -> None:
    file = tmp_path / "rows.parquet"
    file.write_bytes(damaged_parquets(tmp_path)[name])
    result = check(str(file))
    assert result.exit_code == 64
    assert result.stderr.startswith(f"{file} cannot be read: ") and result.stderr.count("\n") == 1


def test_parquet_with_a_column_twice_or_without_a_column_is_one_line(tmp_path: Path) -> None:
    twice = pa.table([pa.array(["a"]), pa.array(["b"]), pa.array(["1"])], names=["problem", "problem", "answer"])
    pq.write_table(twice, tmp_path / "twice.parquet")
    parquet(tmp_path / "without.parquet", **{"prompt": pa.array(["?"]), "x" * 5000: pa.array(["1"])})
    for name in ("twice", "without"):
        result = check(str(tmp_path / f"{name}.parquet"))
        assert (result.exit_code, result.stderr.count("\n")) == (64, 1)
        assert len(result.stderr) < 1500


def test_a_data_folder_s_files_do_not_lead_out_of_it(tmp_path: Path) -> None:
    (tmp_path / "secret.jsonl").write_text(json.dumps({"problem": "?", "answer": "1"}))
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "rows.jsonl").symlink_to(tmp_path / "secret.jsonl")
    with pytest.raises(BadInput, match=r"rows\.jsonl in .* leads out of that folder"):
        load_problems(Source(path=str(folder)))
    assert len(load_problems(Source(path=str(folder / "rows.jsonl")))) == 1, "whoever names the file means it"


def test_a_saved_data_set_s_files_do_not_lead_out_of_it(tmp_path: Path) -> None:
    from datasets import Dataset

    Dataset.from_dict({"problem": ["?"], "answer": ["1"]}).save_to_disk(tmp_path / "saved")
    (tmp_path / "saved/data-00000-of-00001.arrow").rename(tmp_path / "outside.arrow")
    (tmp_path / "saved/loop.arrow").symlink_to(tmp_path / "saved/loop.arrow")
    state = tmp_path / "saved/state.json"
    reported = {
        json.dumps({"_data_files": [{"filename": "../outside.arrow"}]}): "leads out of that folder",
        json.dumps({"_data_files": [{"filename": str(tmp_path / "outside.arrow")}]}): "leads out of that folder",
        json.dumps({"_data_files": [{"filename": "a\0"}]}): "leads out of that folder",
        json.dumps({"_data_files": [{"filename": "loop.arrow"}]}): "leads out of that folder|cannot be read",
        json.dumps({"_data_files": [{}]}): "does not name the files",
        json.dumps([]): "does not name the files",
        "[" * 100_000: "does not name the files",
        json.dumps({"_data_files": [{"filename": "gone.arrow"}]}): "cannot be read",
    }
    for text, message in reported.items():
        state.write_text(text)
        with pytest.raises(BadInput, match=message) as caught:
            load_problems(Source(path=str(tmp_path / "saved")))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "reported"),
    [
        ("x" * 5000 + ".jsonl", "cannot be read: File name too long"),
        ("~nobody-of-that-name/rows.jsonl", "does not exist"),
        ("hf://", "write it as hf://owner/name"),
        ("hf://pandas", "write it as hf://owner/name"),
        ("hf://../../etc/passwd", "write it as hf://owner/name"),
        ("hf://owner/name@../x", "write it as hf://owner/name"),
    ],
)
def test_addresses_that_cannot_be_are_one_line(path: str, reported: str) -> None:
    result = check(path)
    assert result.exit_code == 64
    assert reported in result.stderr and result.stderr.count("\n") == 1


def test_a_folder_of_mixed_files_reads_its_data_and_refuses_a_name_that_cannot_be_shown(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# data")
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + json.dumps({"problem": "1?", "answer": "1"}).encode() + b"\r\n\r\n")
    (tmp_path / "b.json").write_text(json.dumps([{"problem": "2?", "answer": "2"}, {"problem": 3, "answer": "2"}]))
    (tmp_path / "folder.jsonl").mkdir()
    parquet(tmp_path / "c.parquet", problem=pa.array(["3?"]), answer=pa.array([3]))
    result = check(str(tmp_path))
    assert result.stdout.splitlines()[0] == "b.json#1: row malformed: the problem is a number, not text"
    assert result.stdout.splitlines()[-1] == f"{tmp_path}: 3 of 4 rows are good, 1 are left out"
    (tmp_path / "d\x1b[2J.jsonl").write_text("{}")
    refused = check(str(tmp_path))
    assert (refused.exit_code, refused.stderr.count("\n"), "cannot be shown" in refused.stderr) == (64, 1, True)
    assert "\x1b" not in refused.stderr


def test_a_json_array_with_a_key_given_twice_loses_that_row_only(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text('[{"problem": "?", "answer": "1"}, {"problem": "?", "answer": "1", "answer": "2"}]')
    assert check(str(file)).stdout.splitlines()[0] == "rows.json#1: row malformed: the key answer is given twice"


def test_an_image_root_that_is_not_there_makes_images_missing(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(problem()))
    for root in ("~nobody-of-that-name", str(tmp_path / "gone"), "x" * 300):
        rows = load_problems(Source(path=str(file), image_root=root))
        with pytest.raises(BadInput, match="image missing"):
            rows[0]
