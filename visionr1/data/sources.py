"""From a source's address to tables of raw cells; nothing here knows what the columns mean."""

from __future__ import annotations

import errno
import json
import logging
import mmap
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from visionr1.data.badrow import BadRow, one_line
from visionr1.errors import BadInput
from visionr1.storage import NotFound, StorageError, open_store
from visionr1.storage.store import check_key

if TYPE_CHECKING:
    from datasets import Dataset

SUFFIXES: Final = (".parquet", ".jsonl", ".json")
NOT_DATA: Final = ("dataset_info.json", "dataset_infos.json")
"""Read by trainers and by `datasets`, but without rows."""
SPLIT_NAMES: Final = ("train", "validation", "val", "dev", "test")
MAX_IMAGE_BYTES: Final = 128 * 2**20
_HUB_NAME: Final = re.compile(r"\w[\w.-]*/\w[\w.-]*(@\w[\w.-]*)?", re.ASCII)
_LONGEST_INTEGER: Final = 4000
"""Digits. Longer integers stay text: Python refuses to convert very long ones, because that takes long."""

Cells = Mapping[str, Any]
OpenPath = Callable[[str], bytes]
"""Reads an image file by the path that a row gives. Raises FileNotFoundError, or PermissionError for a path outside the root."""


@dataclass(frozen=True)
class Table:
    """The rows of one file or data set.

    `cells(i)` reads row i and raises BadRow for a damaged one. `columns` are those of the file, or of its first
    good row. `keep` has what must exist as long as the table (a temporary download folder).
    """

    name: str
    size: int
    columns: tuple[str, ...]
    cells: Callable[[int], Cells]
    open_path: OpenPath
    keep: object = None


def open_tables(path: str, image_root: str | None) -> list[Table]:
    """Tables of a file, a directory, `s3://bucket/key` or `hf://owner/name[@split]`.

    Raises BadInput when nothing readable is there, StorageError when a remote place cannot be reached now.
    """
    if path.startswith("hf://"):
        return [_hub_table(path, _opener(image_root) if image_root else _no_folder)]
    if path.startswith("s3://"):
        return _s3_tables(path, image_root)
    with _local(path):
        return _local_tables(path, image_root)


@contextmanager
def _local(path: str) -> Iterator[None]:
    """What the user can fix is BadInput; a disk may be better the next time (StorageError)."""
    try:
        yield
    except OSError as error:
        kind = BadInput if error.errno in (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG) else StorageError
        raise kind(f"{one_line(path)} cannot be read: {error.strerror}") from error


def _local_tables(path: str, image_root: str | None) -> list[Table]:
    here = Path(os.path.expanduser(path))
    if (here / "state.json").is_file():
        return [_saved_table(here, _opener(image_root or str(here)))]
    if (here / "dataset_dict.json").is_file():
        raise BadInput(f"{path} has several splits; give one of its folders, such as {here / 'train'}")
    if here.is_dir():
        names = pick_files(path, sorted(entry.name for entry in here.iterdir() if entry.is_file()))
        _refuse_leaving(here, names)
        files = [here / name for name in names]
    elif here.is_file():
        files = [here]
    else:
        raise BadInput(
            f"{path} does not exist; give a .parquet, .jsonl or .json file, a directory of them, s3://, hf:// or demo://"
        )
    return [_file_table(file, _opener(image_root or str(file.parent))) for file in files]


def _refuse_leaving(folder: Path, names: Sequence[str]) -> None:
    """Data files of a folder lie in it; where a link leads out of it, only the user may say so, by naming the file."""
    top = folder.resolve()
    for name in names:
        if _leads_out(top, name):
            raise BadInput(
                f"{one_line(name)} in {folder} leads out of that folder; copy the file into it, or give the file's own path"
            )


def _leads_out(top: Path, name: str) -> bool:
    try:
        return not (top / name).resolve().is_relative_to(top)
    # A NUL character, or a loop of links.
    except (ValueError, RuntimeError):
        return True


def pick_files(folder: str, names: Sequence[str]) -> list[str]:
    """The data files among a folder's names. Raises BadInput for none, or for the files of several splits."""
    chosen = [name for name in names if name.endswith(SUFFIXES) and name not in NOT_DATA]
    for name in chosen:
        if not name.isprintable():
            raise BadInput(f"{folder} has a data file with a name that cannot be shown, {ascii(name)}; rename it")
    if not chosen:
        raise BadInput(f"{folder} has no .parquet, .jsonl or .json file")
    splits = {split for name in chosen for split in SPLIT_NAMES if PurePosixPath(name).stem.split("-")[0] == split}
    if len(splits) > 1:
        raise BadInput(f"{folder} has several splits ({', '.join(sorted(splits))}); name one file, or give each split a folder")
    return chosen


def _opener(root: str) -> OpenPath:
    """Reads image files below `root`, a local directory or s3://bucket/prefix."""
    if root.startswith("s3://"):
        return _s3_opener(root)
    top = Path(os.path.expanduser(root)).resolve()

    def read(path: str) -> bytes:
        try:
            file = (top / path).resolve()
            exists = file.is_file()
        # A name that is too long or a loop of links is no file either.
        except (OSError, RuntimeError) as error:
            raise FileNotFoundError(f"no file {path[:80]} in {top}") from error
        if not file.is_relative_to(top):
            raise PermissionError(f"{path} leads out of {top}")
        if not exists:
            raise FileNotFoundError(f"no file {path} in {top}")
        if file.stat().st_size > MAX_IMAGE_BYTES:
            raise PermissionError(f"{path} is larger than {MAX_IMAGE_BYTES >> 20} MiB")
        return file.read_bytes()

    return read


def _no_folder(path: str) -> bytes:
    raise FileNotFoundError(f"the row names the file {path}, but a data set from the hub has no folder of images")


def _s3_opener(root: str) -> OpenPath:
    store = open_store(root)

    def read(path: str) -> bytes:
        try:
            key = check_key(str(PurePosixPath(path)))
        except BadInput:
            raise PermissionError(f"{path} is not a key below {root}") from None
        try:
            return store.read_bytes(key)
        except NotFound:
            raise FileNotFoundError(f"no object {path} in {root}") from None

    return read


def _s3_tables(path: str, image_root: str | None) -> list[Table]:
    """Downloads the data files (not the images) into a folder that lives as long as the tables."""
    folder = path.rstrip("/")
    if path.endswith(SUFFIXES):
        folder, _, name = path.rpartition("/")
        names = [name]
    else:
        names = pick_files(path, [key for key in open_store(folder).list("") if "/" not in key])
    store = open_store(folder)
    download = tempfile.TemporaryDirectory(prefix="visionr1-data-")
    open_path = _opener(image_root or folder)
    tables = []
    for name in names:
        file = Path(download.name) / name
        try:
            store.get_file(name, file)
        except NotFound:
            raise BadInput(f"{folder}/{name} does not exist; give the key of a .parquet, .jsonl or .json file") from None
        tables.append(_file_table(file, open_path, cache_dir=f"{download.name}/cache", keep=download))
    return tables


def _file_table(file: Path, open_path: OpenPath, cache_dir: str | None = None, keep: object = None) -> Table:
    if file.suffix == ".parquet":
        return _parquet_table(file, open_path, cache_dir, keep)
    if file.suffix == ".jsonl":
        return _jsonl_table(file, open_path, keep)
    if file.suffix == ".json":
        return _json_table(file, open_path, keep)
    raise BadInput(f"{file}: cannot read {file.suffix or 'a file without suffix'}; give .parquet, .jsonl or .json")


def _jsonl_table(file: Path, open_path: OpenPath, keep: object) -> Table:
    """One JSON object per line; only the lines' places are held, so a damaged line is found when it is read."""
    spans = []
    with file.open("rb") as lines:
        position = 0
        for line in lines:
            if line.strip():
                spans.append((position, position + len(line)))
            position += len(line)
        if not spans:
            raise BadInput(f"{file} is empty")
        if _is_array(lines, spans):
            raise BadInput(f"{file} is a JSON array; name it .json, or write one object per line")
        text = mmap.mmap(lines.fileno(), 0, access=mmap.ACCESS_READ)

    def cells(index: int) -> Cells:
        begin, end = spans[index]
        try:
            row = _parsed(text[begin:end])
        except (ValueError, RecursionError) as error:
            raise BadRow(f"{file.name}#{index}", "row malformed", f"not JSON in UTF-8 ({error})") from None
        return _mapping(row, f"{file.name}#{index}")

    return Table(file.name, len(spans), _first_columns(file, len(spans), cells), cells, open_path, keep)


def _is_array(lines: BinaryIO, spans: list[tuple[int, int]]) -> bool:
    """Whether the file is one array over several lines, or with all its rows in one line."""
    lines.seek(spans[0][0])
    first = lines.read(spans[0][1] - spans[0][0]).strip()
    if len(spans) == 1:
        return first.startswith(b"[{") and first.endswith(b"]")
    return first == b"[" or (first.startswith(b"[") and first.endswith(b","))


def _json_table(file: Path, open_path: OpenPath, keep: object) -> Table:
    """One array of objects."""
    try:
        rows = _parsed(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{file} is not JSON in UTF-8 ({error}); is it a .jsonl file?") from None
    if not isinstance(rows, list) or not rows:
        raise BadInput(f"{file} must be a JSON array of rows, not {'an empty one' if rows == [] else type(rows).__name__}")

    def cells(index: int) -> Cells:
        return _mapping(rows[index], f"{file.name}#{index}")

    return Table(file.name, len(rows), _first_columns(file, len(rows), cells), cells, open_path, keep)


@dataclass(frozen=True)
class RepeatedKey:
    """Stands in the place of a JSON object that gives a key twice: which of its values is meant nobody knows."""

    key: str


def _parsed(data: bytes) -> Any:
    """JSON in UTF-8; integers too long to be numbers stay text. Raises ValueError or RecursionError."""
    return json.loads(
        data.decode("utf-8-sig"),
        object_pairs_hook=_object,
        parse_int=lambda digits: int(digits) if len(digits) <= _LONGEST_INTEGER else digits,
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | RepeatedKey:
    cells = dict(pairs)
    if len(cells) == len(pairs):
        return cells
    names = [name for name, _ in pairs]
    return RepeatedKey(next(name for place, name in enumerate(names) if name in names[:place]))


def _mapping(row: object, row_id: str) -> Cells:
    if isinstance(row, dict):
        return row
    if isinstance(row, RepeatedKey):
        raise BadRow(row_id, "row malformed", f"the key {row.key} is given twice")
    raise BadRow(row_id, "row malformed", f"a row must be a JSON object, but this one is a {type(row).__name__}")


def _first_columns(file: Path, size: int, cells: Callable[[int], Cells]) -> tuple[str, ...]:
    for index in range(min(size, 100)):
        try:
            return tuple(cells(index))
        except BadRow as error:
            first = str(error)
    raise BadInput(f"{file} has no readable row among its first {min(size, 100)}; the last error: {first}")


def _parquet_table(file: Path, open_path: OpenPath, cache_dir: str | None, keep: object) -> Table:
    with _datasets(str(file)) as datasets:
        dataset = datasets.Dataset.from_parquet(str(file), cache_dir=cache_dir)
    return _dataset_table(file.name, dataset, open_path, keep)


def _saved_table(folder: Path, open_path: OpenPath) -> Table:
    try:
        names = [str(file["filename"]) for file in _parsed((folder / "state.json").read_bytes())["_data_files"]]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise BadInput(f"{folder}/state.json does not name the files of a data set; save it again") from None
    _refuse_leaving(folder, names)
    with _datasets(str(folder)) as datasets:
        dataset = datasets.load_from_disk(str(folder))
    return _dataset_table(folder.name, dataset, open_path)


def _hub_table(path: str, open_path: OpenPath) -> Table:
    if not _HUB_NAME.fullmatch(path.removeprefix("hf://")):
        raise BadInput(f"{one_line(path)}: write it as hf://owner/name or hf://owner/name@split")
    name, _, split = path.removeprefix("hf://").partition("@")
    with _datasets(path) as datasets:
        dataset = datasets.load_dataset(name, split=split or "train")
    return _dataset_table(f"{name}@{split or 'train'}", dataset, open_path)


def _dataset_table(name: str, dataset: Dataset, open_path: OpenPath, keep: object = None) -> Table:
    """Cells come from Arrow as stored, so an image stays a struct of bytes and path and is never decoded here."""
    rows = dataset.with_format("arrow")

    def cells(index: int) -> Cells:
        try:
            row: Cells = rows[index].to_pylist()[0]
        # Text that is not UTF-8, dates that Python does not have, ...
        except (ValueError, ArithmeticError) as error:
            raise BadRow(f"{name}#{index}", "row malformed", f"a cell cannot be read ({error})") from None
        return row

    if not len(dataset):
        raise BadInput(f"{name} is empty")
    return Table(name, len(dataset), tuple(dataset.column_names), cells, open_path, keep)


@contextmanager
def _datasets(what: str) -> Iterator[ModuleType]:
    """The library, imported when it is needed; its bars stay out of logs.

    Data that cannot be read is the user's to fix (BadInput); a disk or a network may be better the next time (StorageError).
    """
    import datasets

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    datasets.logging.set_verbosity(logging.CRITICAL)
    try:
        yield datasets
    # Damaged files make the library raise nearly anything (KeyError, AttributeError, RuntimeError, ...).
    except Exception as error:
        cause = error.__cause__ or error
        damaged = type(cause) is OSError and cause.errno is None  # so Arrow says it
        if isinstance(cause, OSError) and not damaged and not isinstance(cause, FileNotFoundError):
            raise StorageError(f"{what} cannot be read now: {_first_line(cause)}") from error
        raise BadInput(f"{what} cannot be read: {_first_line(cause)}") from error


def _first_line(error: BaseException) -> str:
    return one_line(str(error).strip().split("\n")[0]) or type(error).__name__
