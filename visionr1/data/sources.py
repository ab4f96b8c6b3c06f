"""From a source's address to tables of raw cells; nothing here knows what the columns mean."""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import TYPE_CHECKING, Final

from visionr1.data.badrow import BadRow, one_line
from visionr1.data.json_rows import Cells, JsonRows, parsed
from visionr1.data.pictures import NoPictures, Pictures, pictures_below
from visionr1.data.regular import open_file, require_regular, stamp
from visionr1.errors import BadInput
from visionr1.storage import NotFound, StorageError, open_store

if TYPE_CHECKING:
    from datasets import Dataset

SUFFIXES: Final = (".parquet", ".jsonl", ".json")
NOT_DATA: Final = ("dataset_info.json", "dataset_infos.json")
"""Read by trainers and by `datasets`, but without rows."""
SPLIT_NAMES: Final = ("train", "validation", "val", "dev", "test")
_HUB_NAME: Final = re.compile(r"\w[\w.-]*/\w[\w.-]*(@(\w[\w.-]*/)?\w[\w.-]*)?", re.ASCII)


@dataclass(frozen=True)
class Table:
    """The rows of one file or data set.

    `cells(i)` reads row i and raises BadRow for a damaged one. `columns` are those of the file, or of the first rows of a
    JSON file. `stamp` differs once the file has changed. `keep` has what must exist as long as the table (a temporary
    download folder).
    """

    name: str
    size: int
    columns: tuple[str, ...]
    cells: Callable[[int], Cells]
    pictures: Pictures
    stamp: str
    keep: object = None


def open_tables(path: str, image_root: str | None) -> list[Table]:
    """Tables of a file, a directory, `s3://bucket/key` or `hf://owner/name[@split]`.

    Raises BadInput when nothing readable is there, StorageError when a remote place cannot be reached now.
    """
    if path.startswith("hf://"):
        return [_hub_table(path, pictures_below(image_root) if image_root else NoPictures())]
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
        return [_saved_table(here, pictures_below(image_root or str(here)))]
    if (here / "dataset_dict.json").is_file():
        raise BadInput(f"{path} has several splits; give one of its folders, such as {here / 'train'}")
    if here.is_dir():
        names = pick_files(path, sorted(entry.name for entry in here.iterdir() if not entry.is_dir()))
        _refuse_leaving(here, names)
        files = [here / name for name in names]
    elif here.exists():
        files = [here]
    else:
        raise BadInput(
            f"{path} does not exist; give a .parquet, .jsonl or .json file, a directory of them, s3://, hf:// or demo://"
        )
    return [_file_table(file, pictures_below(image_root or str(file.parent))) for file in files]


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


def _s3_tables(path: str, image_root: str | None) -> list[Table]:
    """Downloads the data files (not the images) into a folder that lives as long as the tables."""
    folder = path.rstrip("/")
    if path.endswith(SUFFIXES):
        folder, _, name = path.rpartition("/")
        names = [name]
    else:
        names = pick_files(path, [key for key in sorted(open_store(folder).versions()) if "/" not in key])
    store = open_store(folder)
    download = tempfile.TemporaryDirectory(prefix="visionr1-data-")
    pictures = pictures_below(image_root or folder)
    tables = []
    for name in names:
        file = Path(download.name) / name
        version = store.version(name) or ""  # before it is fetched, so that a later change is seen
        try:
            store.get_file(name, file)
        except NotFound:
            raise BadInput(f"{folder}/{name} does not exist; give the key of a .parquet, .jsonl or .json file") from None
        table = _file_table(file, pictures, cache_dir=f"{download.name}/cache", keep=download)
        tables.append(replace(table, stamp=version))
    return tables


def _file_table(file: Path, pictures: Pictures, cache_dir: str | None = None, keep: object = None) -> Table:
    if file.suffix == ".parquet":
        return _parquet_table(file, pictures, cache_dir, keep)
    if file.suffix in (".jsonl", ".json"):
        return _json_table(file, pictures, keep)
    raise BadInput(f"{file}: cannot read {file.suffix or 'a file without suffix'}; give .parquet, .jsonl or .json")


def _json_table(file: Path, pictures: Pictures, keep: object) -> Table:
    rows = JsonRows(file)
    return Table(file.name, len(rows), rows.columns(), rows.cells, pictures, stamp(os.stat(file)), keep)


def _parquet_table(file: Path, pictures: Pictures, cache_dir: str | None, keep: object) -> Table:
    require_regular(file, os.stat(file))
    with _datasets(str(file)) as datasets:
        dataset = datasets.Dataset.from_parquet(str(file), cache_dir=cache_dir)
    return _dataset_table(file.name, dataset, pictures, stamp(os.stat(file)), keep)


def _saved_table(folder: Path, pictures: Pictures) -> Table:
    try:
        with open_file(folder / "state.json") as state:
            names = [str(file["filename"]) for file in parsed(state.read())["_data_files"]]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise BadInput(f"{folder}/state.json does not name the files of a data set; save it again") from None
    _refuse_leaving(folder, names)
    for entry in folder.iterdir():
        if entry.exists() and not entry.is_dir():
            require_regular(entry, os.stat(entry))
    with _datasets(str(folder)) as datasets:
        dataset = datasets.load_from_disk(str(folder))
    stamps = [stamp(os.stat(folder / name)) for name in names]
    return _dataset_table(folder.name, dataset, pictures, " ".join(stamps))


def _hub_table(path: str, pictures: Pictures) -> Table:
    if not _HUB_NAME.fullmatch(path.removeprefix("hf://")):
        raise BadInput(
            f"{one_line(path)}: write it as hf://owner/name, hf://owner/name@split or hf://owner/name@configuration/split"
        )
    name, _, place = path.removeprefix("hf://").partition("@")
    configuration, _, split = place.rpartition("/")
    with _datasets(path) as datasets:
        dataset = datasets.load_dataset(name, configuration or None, split=split or "train")
    # The library names the folder of a downloaded data set by its commit.
    files = [Path(file["filename"]) for file in dataset.cache_files]
    stamps = [f"{file.parent.name}/{file.name}:{file.stat().st_size}" for file in files]
    return _dataset_table(f"{name}@{place or 'train'}", dataset, pictures, " ".join(stamps))


def _dataset_table(name: str, dataset: Dataset, pictures: Pictures, stamp: str, keep: object = None) -> Table:
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
    return Table(name, len(dataset), tuple(dataset.column_names), cells, pictures, stamp, keep)


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
