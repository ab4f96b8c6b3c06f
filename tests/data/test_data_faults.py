"""Rows and files that are wrong in ways that users of other trainers have met: what is read, and what the message says."""

import base64
import io
import json
import os
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from PIL import Image

from visionr1.data.badrow import BadRow
from visionr1.data.check import check_sample_text
from visionr1.data.images import BadImage, fit_size, open_image
from visionr1.data.readers import load_problems
from visionr1.data.rows import Row, Sample
from visionr1.errors import BadInput
from visionr1.recipe.source import Source


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (30, 30), "red").save(buffer, "PNG")
    return buffer.getvalue()


def read(folder: Path, *rows: object) -> list[Row]:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(load_problems(Source(path=str(file))))


def with_image(image: object) -> dict[str, object]:
    return {"images": [image], "problem": "<image>?", "answer": "1"}


@pytest.mark.parametrize(
    "head", ["data:image/png;base64,", "DATA:image/png;Base64,", "data:;base64,", "data:image/png;x=y;base64, \n"]
)
def test_a_data_address_is_the_picture_in_it(tmp_path: Path, head: str) -> None:
    address = f"{head}{base64.b64encode(picture()).decode()}"
    assert read(tmp_path, with_image(address))[0].images == (picture(),)


@pytest.mark.parametrize(
    ("image", "kind", "reported"),
    [
        ("https://example.org/a.png", "image path", "images are not fetched, so download it and give its path"),
        ("http://example.org/a.png", "image path", "is an address"),
        ("file://imgs/a.png", "image path", "is an address"),
        ("data:image/png,abc", "image unreadable", "a data address is data:image/png;base64,..."),
        ("data:image/png;base64,???", "image unreadable", "a data address is data:image/png;base64,..."),
        (base64.b64encode(bytes(300)).decode(), "image missing", "write data:image/png;base64, before it"),
        (base64.b64encode(picture()).decode(), "image missing", "write data:image/png;base64, before it"),
    ],
)
def test_what_is_no_path_says_what_to_do(tmp_path: Path, image: str, kind: str, reported: str) -> None:
    with pytest.raises(BadRow) as caught:
        read(tmp_path, with_image(image))
    assert caught.value.kind == kind and reported in caught.value.detail
    assert "\n" not in str(caught.value)


def test_an_empty_list_of_images_gives_way_to_an_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    rows = read(tmp_path, {"images": [], "image": "a.png", "problem": "<image>?", "answer": "1"})
    assert rows[0].images == (picture(),)


def test_decimals_are_answers(tmp_path: Path) -> None:
    table = pa.table({"problem": ["?", "?"], "answer": pa.array([Decimal("4.20"), Decimal("-0.50")], pa.decimal128(5, 2))})
    pq.write_table(table, tmp_path / "rows.parquet")
    assert [row.answer for row in load_problems(Source(path=str(tmp_path / "rows.parquet")))] == ["4.20", "-0.50"]
    small = pa.table({"problem": ["?"], "answer": pa.array([Decimal("0.00000001")], pa.decimal128(9, 8))})
    pq.write_table(small, tmp_path / "small.parquet")
    assert load_problems(Source(path=str(tmp_path / "small.parquet")))[0].answer == "0.00000001"


@pytest.mark.parametrize("indent", [None, 1])
def test_an_array_in_a_file_of_lines_is_named(tmp_path: Path, indent: int | None) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps([{"problem": "?", "answer": "1"}] * 3, indent=indent))
    with pytest.raises(BadInput, match="is a JSON array; name it .json, or write one object per line"):
        load_problems(Source(path=str(file)))


def test_objects_over_several_lines_are_named(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"problem": "?", "answer": "1"}, indent=2) * 2)
    with pytest.raises(BadInput, match="has objects over several lines; write each object in one line"):
        load_problems(Source(path=str(tmp_path / "rows.jsonl")))


@pytest.mark.parametrize(
    ("response", "fault"),
    [
        ("</think> b <think> 42", "its tags in the wrong order: </think> <think>"),
        ("<answer>42</answer><think>a</think>", "its tags in the wrong order: <answer> </answer> <think> </think>"),
        ("<think><answer>42</answer></think>", "its tags in the wrong order: <think> <answer> </answer> </think>"),
        ("<think>a</think><think>b</think><answer>42</answer>", "2 think blocks"),
        ("<think>a</think><answer>1</answer><answer>2</answer>", "2 answer blocks"),
        ("<think> a </think><answer> 42", "1 <answer> and 0 </answer>"),
        ("<think> a <answer>42</answer>", "1 <think> and 0 </think>"),
    ],
)
def test_a_chain_of_thought_whose_tags_are_out_of_order_is_left_out(response: str, fault: str) -> None:
    with pytest.raises(BadRow) as caught:
        check_sample_text(Sample("s", "?", (), response))
    assert (caught.value.kind, caught.value.detail) == ("row malformed", f"the response has {fault}")


@pytest.mark.parametrize(
    "response",
    ["<think>a</think><answer>42</answer>", "just 42", "<answer>42</answer>", "<think>a</think> 42", "a < b <thinking>"],
)
def test_a_chain_of_thought_may_lack_a_block(response: str) -> None:
    check_sample_text(Sample("s", "?", (), response))


@pytest.mark.parametrize(
    ("data", "reported"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing, which is not read: convert it to PNG"),
        (b"<?xml version='1.0'?>\n<svg/>", "an SVG drawing"),
        (b"\x00\x00\x00\x18ftypheic" + bytes(40), "a HEIC or AVIF image, which is not read: convert it to PNG or JPEG"),
        (b"<!DOCTYPE html><html>404</html>", "a web page and no image: the download has failed"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer and no image: run git lfs pull"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"<?xml version='1.0'?>\n<!-- made by hand -->\n<!DOCTYPE svg PUBLIC 'x'>\n<svg/>", "an SVG drawing"),
        (b"<!-- Generator -->\n<svg:svg>", "an SVG drawing"),
        (b"\x00\x00\x00\x1cftypavis" + bytes(40), "a HEIC or AVIF image"),
        (b"\x00\x00\x00\x1cftyphevc" + bytes(40), "a HEIC or AVIF image"),
        (b"\x00\x00\x00\x1cftypisom" + bytes(40), "a film and no image"),
        (b"\n<!-- x --><HTML lang='en'>", "a web page and no image"),
        (b"<head><title>403</title>", "a web page and no image"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "a server's message and no image"),
        (b'{"error": "not found"}', "a server's message and no image"),
        (b"", "not a known image"),
        (b"\x1f\x8b\x08", "a gzip archive and no image"),
        (b"PK\x03\x04", "a zip archive and no image: unpack it"),
        (base64.b64encode(picture()), "an image in base64: decode it"),
        (b"data:image/png;base64,", "the text of a data address and no image"),
        (b"\xff\x0a" + bytes(20), "a JPEG XL image"),
        (b"\x00\x00\x01\x00" + bytes(20), "an icon (ICO)"),
        (b"%!PS-Adobe-3.0", "a PostScript drawing"),
        (b"some text", "not a known image"),
    ],
)
def test_a_file_that_is_no_picture_is_told_apart(data: bytes, reported: str) -> None:
    with pytest.raises(BadImage) as caught:
        open_image(data)
    assert str(caught.value).startswith(reported) and str(caught.value).endswith(f", {len(data)} bytes")


def test_a_picture_that_is_too_long_says_how_to_help_it() -> None:
    with pytest.raises(BadImage, match="4000 x 10 pixels is too long.*crop it, or pad the short side to 20 pixels"):
        fit_size(4000, 10, 784, 784 * 64)
    assert fit_size(4000, 20, 784, 784 * 2000)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.parquet"])
def test_a_pipe_in_the_place_of_a_data_file_is_refused_at_once(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / name).symlink_to(tmp_path / name)
    for path in (tmp_path / name, tmp_path, tmp_path / "folder" / name):
        with pytest.raises(BadInput, match=rf"{name} is a pipe \(FIFO\); put a file in its place"):
            load_problems(Source(path=str(path)))
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(BadInput, match=f"{name} is a device"):
        load_problems(Source(path=str(tmp_path / name)))


@pytest.mark.parametrize("name", ["dataset_info.json", "data-00000-of-00001.arrow", "state.json"])
def test_a_pipe_in_a_saved_data_set_is_refused_at_once(tmp_path: Path, name: str) -> None:
    Dataset.from_dict({"problem": ["?"], "answer": ["1"]}).save_to_disk(tmp_path / "saved")
    (tmp_path / "saved" / name).unlink()
    os.mkfifo(tmp_path / "saved" / name)
    with pytest.raises(BadInput, match=rf"{name} is a pipe \(FIFO\)"):
        load_problems(Source(path=str(tmp_path / "saved")))


def test_a_row_with_a_pipe_or_a_device_for_a_picture_is_left_out(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(BadRow, match=r"image missing: .*a.png is a pipe \(FIFO\)"):
        read(tmp_path, with_image("a.png"))
    rows = [json.dumps(with_image("zero")), json.dumps(with_image("null"))]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    for row in load_each(Source(path=str(tmp_path / "rows.jsonl"), image_root="/dev")):
        assert (row.kind, "is a device" in row.detail) == ("image missing", True)


def load_each(source: Source) -> list[BadRow]:
    found = []
    rows = load_problems(source)
    for index in range(len(rows)):
        with pytest.raises(BadRow) as caught:
            rows[index]
        found.append(caught.value)
    return found
