"""A run directory keeps what was found out about its rows; nothing that has changed is taken from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pytest
from datasets import Dataset, load_from_disk
from moto.server import ThreadedMotoServer
from PIL import Image

from visionr1.data.check import CheckReport, check_problems
from visionr1.data.kept import Kept
from visionr1.data.pictures import pictures_below
from visionr1.data.readers import load_problems
from visionr1.data.rows import Row
from visionr1.data.verdicts import SCHEMA, Damaged, read_verdicts, write_table
from visionr1.recipe.source import Source
from visionr1.rundir.layout import CHECKED_TRAIN
from visionr1.storage import Store, open_store

LIMITS: dict[str, Any] = {"min_pixels": 784, "max_pixels": 784 * 64, "max_prompt_tokens": 50}
GOOD = "rows were checked before and have not changed"
CHANGED = "the data files, the limits or the program have changed since; looking at every row again"


def picture(file: Path, colour: str) -> None:
    Image.new("RGB", (56, 28), colour).save(file)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    rows: list[dict[str, Any]] = []
    for place in range(6):
        picture(folder / f"{place}.png", "red")
        rows.append({"images": [f"{place}.png"], "problem": f"<image>{place}?", "answer": place})
    rows += [{"images": ["gone.png"], "problem": "<image>?", "answer": 1}, {"problem": "?", "answer": None}]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


class Checking:
    """Checks problems of a run, and counts how many rows were looked at."""

    def __init__(self, run: Store) -> None:
        self.run, self.looked = run, 0

    def __call__(self, data: Path | str, counter: str = "", **other: Any) -> CheckReport:
        def count(row: Row) -> int:
            self.looked += 1
            return 3 + len(row.problem)

        self.looked = 0
        limits = LIMITS | {name: value for name, value in other.items() if name in LIMITS}
        source = Source(path=str(data), **{name: value for name, value in other.items() if name not in LIMITS})
        kept = Kept(self.run, CHECKED_TRAIN, counter)
        return check_problems(load_problems(source), **limits, count_prompt_tokens=count, kept=kept)


@pytest.fixture
def check(tmp_path: Path) -> Checking:
    return Checking(open_store(str(tmp_path / "run")))


def test_a_second_check_finds_the_same_without_looking(data: Path, check: Checking, capsys: pytest.CaptureFixture[str]) -> None:
    first = check(data)
    assert (check.looked, first.good, [note.kind for note in first.bad]) == (
        6,
        list(range(6)),
        ["image missing", "answer missing"],
    )
    plain = check_problems(load_problems(Source(path=str(data))), **LIMITS, count_prompt_tokens=lambda row: 3 + len(row.problem))
    assert first == plain, "keeping it changes nothing"
    capsys.readouterr()
    assert check(data) == first and check.looked == 0
    assert capsys.readouterr().out == f"{CHECKED_TRAIN}: 8 {GOOD}\n"


def test_the_fingerprint_and_order_of_old_runs_still_hold(tmp_path: Path) -> None:
    # As the program gave it before it kept anything.
    lines = [json.dumps({"problem": f"{place} + 1?", "answer": place + 1, "choices": ["a", "b"]}) for place in range(3)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    check = Checking(open_store(str(tmp_path / "run")))
    mark = "rows=3 ids=ff5d49e95f952fd1 texts=b7bed767939a7e04 images=1a03c02fb531d7e1"
    assert [check(tmp_path / "rows.jsonl").fingerprint for _ in range(2)] == [mark, mark]


def _touch(data: Path) -> None:
    os.utime(data / "3.png", ns=(1, 1))


def _recolour(data: Path) -> None:
    (data / "3.png").write_bytes((data / "3.png").read_bytes() + b"more")


def _remove(data: Path) -> None:
    (data / "3.png").unlink()


@pytest.mark.parametrize("change", [_touch, _recolour, _remove])
def test_an_image_that_has_changed_is_seen(
    data: Path, check: Checking, capsys: pytest.CaptureFixture[str], change: Callable[[Path], None]
) -> None:
    check(data)
    change(data)
    capsys.readouterr()
    after = check(data)
    assert check.looked == (5 if change is _remove else 6)
    assert capsys.readouterr().out == f"{CHECKED_TRAIN}: the image 3.png has changed since; looking at every row again\n"
    assert check(data) == after and check.looked == 0


def test_an_image_that_was_missing_and_has_come_is_seen(data: Path, check: Checking) -> None:
    assert check(data).good == list(range(6))
    picture(data / "gone.png", "red")
    assert check(data).good == list(range(7))


def test_other_data_limits_and_tokens_are_looked_at_again(
    data: Path, check: Checking, capsys: pytest.CaptureFixture[str]
) -> None:
    check(data)
    (data / "rows.jsonl").write_text((data / "rows.jsonl").read_text() + json.dumps({"problem": "?", "answer": 1}) + "\n")
    for other in ({}, {"max_pixels": 784}, {"counter": "another tokenizer"}, {"limit": 4}, {"columns": {"problem": "problem"}}):
        capsys.readouterr()
        check(data, **other)
        assert check.looked and capsys.readouterr().out == f"{CHECKED_TRAIN}: {CHANGED}\n", other


def _damaged(file: Path) -> Iterator[tuple[str, str]]:
    """Writes one damaged file after the other; yields what it is and what is said."""
    whole = file.read_bytes()
    metadata = pa.ipc.open_file(whole).schema.metadata
    rows = pa.ipc.open_file(whole).read_all()
    for name, data in {"empty": b"", "half": whole[: len(whole) // 2], "text": b"x" * 999, "zeros": bytes(len(whole))}.items():
        file.write_bytes(data)
        yield name, "it cannot be read"
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, pa.schema([("x", pa.int8())])):
        pass
    yield "columns", "it cannot be read (it has other columns)"
    changes: dict[str, list[Any]] = {
        "kind": ["no such mistake"] + [None] * 7,
        "tokens": [-1] * 8,
        "ids": [None] * 8,
        "paths": [["0.png", "1.png"]] * 8,
        "id": [None] * 8,
    }
    for name, values in changes.items():
        place = SCHEMA.get_field_index(name)
        write_table(file, rows.set_column(place, SCHEMA.field(name), pa.array(values, SCHEMA.field(name).type)), metadata)
        yield name, "it cannot be read (its values contradict one another)"
    write_table(file, rows.slice(0, 5), metadata)
    yield "rows", "have changed since"
    file.unlink()
    os.mkfifo(file)
    yield "pipe", "is a pipe (FIFO)"


def test_a_damaged_file_is_made_again_and_said_in_a_line(
    data: Path, check: Checking, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = check(data)
    file = tmp_path / "run" / CHECKED_TRAIN
    for name, said in _damaged(file):
        capsys.readouterr()
        assert check(data) == first and check.looked == 6, name
        out = capsys.readouterr().out
        assert said in out and out.count("\n") == 1, name
        check(data)
        assert check.looked == 0, name


def test_bits_that_flip_are_never_a_traceback(data: Path, check: Checking, tmp_path: Path) -> None:
    check(data)
    file = tmp_path / "run" / CHECKED_TRAIN
    whole = file.read_bytes()
    for place in range(0, len(whole), 7):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            read_verdicts(file)
        except Damaged as error:
            assert "\n" not in str(error)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    server = ThreadedMotoServer(port=0)
    server.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://{}:{}".format(*server.get_host_and_port()))
    for name, value in {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="lab")
    yield client
    server.stop()


def test_data_and_run_on_s3_are_told_by_their_etags(data: Path, bucket: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for file in data.iterdir():
        bucket.put_object(Bucket="lab", Key=f"data/{file.name}", Body=file.read_bytes())
    check = Checking(open_store("s3://lab/run"))
    first = check("s3://lab/data/rows.jsonl")
    assert check.looked == 6
    assert check("s3://lab/data/rows.jsonl") == first and check.looked == 0
    picture(data / "3.png", "blue")
    bucket.put_object(Bucket="lab", Key="data/3.png", Body=(data / "3.png").read_bytes())
    capsys.readouterr()
    other = check("s3://lab/data/rows.jsonl")
    assert check.looked == 6 and other.fingerprint != first.fingerprint
    assert capsys.readouterr().out == f"{CHECKED_TRAIN}: the image 3.png has changed since; looking at every row again\n"
    bucket.put_object(Bucket="lab", Key="data/rows.jsonl", Body=(data / "rows.jsonl").read_bytes() + b"\n")
    check("s3://lab/data/rows.jsonl")
    assert check.looked == 6
    bucket.put_object(Bucket="lab", Key=f"run/{CHECKED_TRAIN}", Body=b"no arrow")
    assert check("s3://lab/data/rows.jsonl") == other and check.looked == 6


def test_data_from_the_hub_are_told_by_their_commit(
    check: Checking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # As `datasets` keeps a download: in a folder with the commit's name. The hub itself cannot be reached from tests.
    where = {"commit": "abc"}

    def downloaded(name: str, configuration: str | None, split: str) -> Dataset:
        assert configuration is None and split == "train"
        folder = tmp_path / "hub" / name / where["commit"]
        if not folder.exists():
            Dataset.from_dict({"problem": ["1 + 2?"], "answer": ["3"]}).save_to_disk(folder)
        return load_from_disk(str(folder))

    monkeypatch.setattr("datasets.load_dataset", downloaded)
    check("hf://owner/name")
    (file,) = (tmp_path / "hub/owner/name/abc").glob("*.arrow")
    os.utime(file, ns=(1, 1))
    check("hf://owner/name")
    assert check.looked == 0, "downloaded again, it is the same"
    where["commit"] = "def"
    check("hf://owner/name")
    assert check.looked == 1

    monkeypatch.setattr("datasets.load_dataset", lambda *_, split: Dataset.from_dict({"problem": ["?"], "answer": ["3"]}))
    for _ in range(2):
        capsys.readouterr()
        check("hf://owner/name")
        assert check.looked == 1 and "nobody can tell whether the data files have changed" in capsys.readouterr().out


def test_the_stamp_of_a_file_is_the_version_of_its_key(data: Path) -> None:
    stamps = {file.name: pictures_below(str(data)).stamp(file.name) for file in data.iterdir()}
    assert open_store(str(data)).versions() == stamps
    assert open_store(str(data)).version("3.png") == stamps["3.png"] and open_store(str(data)).version("none") is None


def test_the_benchmark_of_starts_finds_the_same_rows(tmp_path: Path) -> None:
    words = ["benchmarks/row_checks.py", "--rows", "30", "--side", "56", "--folder", str(tmp_path)]
    done = subprocess.run([sys.executable, *words], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    (run,) = json.loads(done.stdout)["runs"]
    assert (run["rows"], run["same_rows"]) == (30, True) and run["again"]["peak_mib"] > 0
