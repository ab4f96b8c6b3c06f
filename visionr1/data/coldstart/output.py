"""The cold-start data as the run directory keeps it; `visionr1.rundir.coldstart` then commits it.

Samples are written in both layouts of Vision-R1-cold, one JSON object a line, with images as files beside them, and as parquet
shards that hold their images. They are written as they are read, some at a time, so that memory does not grow with their number.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, TextIO

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features, Image, Value

from visionr1.data.coldstart.choose import Outcome
from visionr1.data.coldstart.filters import Kept, response
from visionr1.data.images import image_suffix
from visionr1.data.rows import Row
from visionr1.rundir import layout
from visionr1.storage import Store

WRITERS: Final = 16
"""Images are written side by side, since each waits for a disk or for S3."""
AT_ONCE: Final = 64
SHARD_BYTES: Final = 256 << 20
FEATURES: Final = Features(
    {
        "id": Value("string"),
        "images": [Image()],
        "problem": Value("string"),
        "answer": Value("string"),
        "response": Value("string"),
        "solved": Value("float32"),
    }
)
"""Columns of a shard. `solved` is the share of the problem's samples that are right, null if it is not known."""


@dataclass(frozen=True)
class Written:
    """A kept problem with its row, its response, and its images' paths relative to `data.jsonl`."""

    outcome: Outcome
    row: Row
    response: str
    images: list[str]


def write_samples(
    store: Store,
    rows: Sequence[Row],
    outcomes: Iterable[Outcome],
    several_images: bool,
    look: Callable[[Sequence[Outcome]], Sequence[Outcome]] = lambda some: some,
) -> Iterator[Written]:
    """Writes all files but the card and yields each sample as it is written.

    `look` sees the outcomes, some at a time and in order, and gives back those that are still to be written. `several_images`
    says whether some sample has several images: then `image` is a list in all lines of `data.jsonl`, so that it has one type.
    """
    written: set[str] = set()

    def prepare(outcome: Outcome) -> Written:
        row = rows[outcome.index]
        assert isinstance(outcome.result, Kept)
        images = [_write_image(store, image, written) for image in row.images]
        return Written(outcome, row, response(outcome.result), images)

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="visionr1-coldstart-")))
        pool = stack.enter_context(ThreadPoolExecutor(WRITERS))
        lines = _Lines(folder, stack)
        shards = _Shards(store, folder)
        source = iter(outcomes)
        while some := [*islice(source, AT_ONCE)]:
            kept = [one for one in look(some) if isinstance(one.result, Kept)]
            for sample in pool.map(prepare, kept):
                lines.add(layout.COLDSTART_DATA, _llava(sample, several_images))
                lines.add(layout.COLDSTART_DATA_MULBERRY, _mulberry(sample))
                shards.add(sample)
                yield sample
            for one in some:
                if one.solved is not None:
                    lines.add(layout.COLDSTART_DIFFICULTY, {"id": one.row_id, "solved": round(one.solved, 4)})
            for line in (line for one in some for line in _rejected(rows, one)):
                lines.add(layout.COLDSTART_REJECTED, line)
        shards.close()
        lines.put(store)
    store.write_bytes(layout.COLDSTART_DATASET_INFO, json.dumps(dataset_info(), indent=1).encode())


class _Lines:
    """Files of JSON lines, made in a folder and put into the store as a whole."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self._files: dict[str, TextIO] = {}

    def add(self, key: str, line: dict[str, Any]) -> None:
        if key not in self._files:
            path = self._folder / key.rpartition("/")[2]
            self._files[key] = self._stack.enter_context(path.open("w", encoding="utf-8"))
        self._files[key].write(json.dumps(line) + "\n")

    def put(self, store: Store) -> None:
        for key, file in self._files.items():
            file.close()
            store.put_file(Path(file.name), key)


class _Shards:
    """Parquet files of about SHARD_BYTES; each is put into the store when it is full."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store, self._path = store, folder / "shard.parquet"
        self._writer: pq.ParquetWriter | None = None
        self._rows: list[dict[str, Any]] = []
        self._number = self._bytes = 0
        store.delete(layout.COLDSTART_PARQUET)

    def add(self, sample: Written) -> None:
        named = zip(sample.row.images, sample.images, strict=True)
        images = [{"bytes": image, "path": f"{number}{Path(path).suffix}"} for number, (image, path) in enumerate(named)]
        self._rows.append(
            {
                "id": sample.row.id,
                "images": images,
                "problem": sample.row.problem,
                "answer": sample.outcome.truth,
                "response": sample.response,
                "solved": sample.outcome.solved,
            }
        )
        self._bytes += sum(map(len, sample.row.images)) + len(sample.response)
        if len(self._rows) >= AT_ONCE or self._bytes >= SHARD_BYTES:
            self._write()

    def _write(self) -> None:
        if self._rows:
            schema = FEATURES.arrow_schema
            self._writer = self._writer or pq.ParquetWriter(self._path, schema)
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=schema))
            self._rows = []
        if self._bytes >= SHARD_BYTES:
            self.close()

    def close(self) -> None:
        self._bytes = 0
        self._write()
        if self._writer is not None:
            self._writer.close()
            self._store.put_file(self._path, layout.coldstart_shard_key(self._number))
            self._writer, self._number = None, self._number + 1


def _write_image(store: Store, image: bytes, written: set[str]) -> str:
    """The image's path relative to `data.jsonl`."""
    path, key = layout.coldstart_image(f"{hashlib.sha256(image).hexdigest()[:32]}{image_suffix(image)}")
    if key not in written:
        store.write_bytes(key, image)
        written.add(key)
    return path


def _llava(sample: Written, several: bool) -> dict[str, Any]:
    turns = [{"from": "human", "value": sample.row.problem}, {"from": "gpt", "value": sample.response}]
    return {"id": sample.row.id, "image": sample.images if several else sample.images[0], "conversations": turns}


def _mulberry(sample: Written) -> dict[str, Any]:
    turns = [{"from": "user", "value": sample.row.problem}, {"from": "assistant", "value": sample.response}]
    return {"images": sample.images, "conversations": turns}


def _rejected(rows: Sequence[Row], outcome: Outcome) -> Iterator[dict[str, Any]]:
    """The dropped chains of a problem; without a problem that can be read there are none."""
    texts = [one for one in outcome.dropped if one.text]
    problem = rows[outcome.index].problem if texts else ""
    for one in texts:
        reason = {"rule": one.rejection.rule, "excerpt": one.rejection.excerpt}
        yield {
            "id": outcome.row_id,
            "sample": one.sample,
            **reason,
            "problem": problem,
            "answer": outcome.truth,
            "reply": one.text,
        }


def dataset_info() -> dict[str, Any]:
    """What LLaMA-Factory's `dataset_dir` says of the two layouts."""
    return {
        f"visionr1_coldstart_{name}": {
            "file_name": key.rpartition("/")[2],
            "formatting": "sharegpt",
            "columns": {"messages": "conversations", "images": images},
            "tags": {"role_tag": "from", "content_tag": "value", "user_tag": user, "assistant_tag": assistant},
        }
        for name, key, images, user, assistant in (
            ("llava_cot", layout.COLDSTART_DATA, "image", "human", "gpt"),
            ("mulberry", layout.COLDSTART_DATA_MULBERRY, "images", "user", "assistant"),
        )
    }
