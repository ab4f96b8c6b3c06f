"""What was found out about each row of a data set, as an Arrow file: can it be used, how long is it, what does it hold?

The file is mapped into memory and written in parts, so it may be of any number of rows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from visionr1.data.badrow import REMEDIES, BadRow, one_line
from visionr1.data.fingerprint import RowDigest, digest, fingerprint
from visionr1.data.readers import FileRows
from visionr1.data.rows import Row, Sample
from visionr1.progress import progress

T = TypeVar("T", Row, Sample)
About = Mapping[bytes, bytes]
PART: Final = 1024
"""Rows that are in memory at the same time."""
_HASH: Final = pa.binary(32)
SCHEMA: Final = pa.schema(
    [
        ("id", pa.string()),
        ("tokens", pa.int32()),  # null where nobody has counted
        *((name, _HASH) for name in RowDigest._fields),  # null for a bad row
        ("kind", pa.string()),  # of the mistake; null for a good row
        ("detail", pa.string()),
        ("paths", pa.list_(pa.string())),  # image files that the row names, as far as they were looked at
        ("stamps", pa.list_(pa.string())),  # of these files, see `Pictures.stamp`
    ]
)


class Damaged(Exception):
    """A file that is not one of verdicts."""


def write_verdicts(
    file: Path, rows: Sequence[T], places: Sequence[int], tokens_of: Callable[[T], int | None], title: str, about: About
) -> None:
    """Looks once at the rows at `places`, in a few threads, with a progress bar; `tokens_of` raises BadRow for a bad one.

    `about` goes into the file: what the verdicts are about.
    """

    def look(place: int) -> dict[str, Any]:
        files: list[tuple[str, str]] = []
        try:
            if isinstance(rows, FileRows):
                row = rows.look(place, lambda path, pictures: files.append((path, pictures.stamp(path))))
            else:
                row = rows[place]
            found = {"id": one_line(row.id), "tokens": tokens_of(row), **digest(row)._asdict()}
        except BadRow as bad:
            found = {"id": one_line(bad.row_id), "kind": bad.kind, "detail": bad.detail}
        return {**found, "paths": [path for path, _ in files], "stamps": [stamp for _, stamp in files]}

    # Threads, since decoding images is done outside Python's lock.
    with (
        pa.OSFile(str(file), "wb") as sink,
        pa.ipc.new_file(sink, SCHEMA.with_metadata(about)) as writer,
        progress(title, len(places)) as advance,
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
    ):
        for start in range(0, len(places), PART):
            found = []
            for verdict in pool.map(look, places[start : start + PART]):
                advance(1)
                found.append(verdict)
            writer.write_batch(pa.RecordBatch.from_pylist(found, SCHEMA))


def read_verdicts(file: Path) -> pa.Table:
    """Maps a file into memory and checks every value. Raises Damaged."""
    try:
        with pa.memory_map(str(file)) as source, pa.ipc.open_file(source) as reader:
            if not reader.schema.equals(SCHEMA):
                raise Damaged("it has other columns")
            table: pa.Table = reader.read_all()
        table.validate(full=True)
    # Text that is not UTF-8 is a ValueError.
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Damaged(one_line(str(error).split("\n")[0])) from None
    good = pc.is_null(table["kind"])
    whole = [pc.is_valid(table[name]) for name in RowDigest._fields]
    lists = pc.equal(pc.list_value_length(table["paths"]), pc.list_value_length(table["stamps"]))
    sound = (
        all(good.equals(column) for column in whole)
        and set(pc.unique(table["kind"]).to_pylist()) <= {None, *REMEDIES}
        and table["id"].null_count == 0
        and not pc.any(pc.less(table["tokens"], 0)).as_py()
        and lists.null_count == 0
        and pc.all(lists).as_py() is not False
    )
    if not sound:
        raise Damaged("its values contradict one another")
    return table


def joined(shares: Sequence[pa.Table]) -> pa.Table:
    """The verdicts that n readers have made, reader k those at places k, k + n, ..., in the order of the rows."""
    readers = len(shares)
    starts = [sum(share.num_rows for share in shares[:reader]) for reader in range(readers)]
    places = range(sum(share.num_rows for share in shares))
    return pa.concat_tables(shares).take([starts[place % readers] + place // readers for place in places])


def write_table(file: Path, table: pa.Table, about: About) -> None:
    """Writes verdicts as `write_verdicts` does."""
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, SCHEMA.with_metadata(about)) as writer:
        writer.write_table(table, max_chunksize=PART)


def verdict_rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    """One verdict after the other, keyed by SCHEMA's names."""
    for batch in table.to_batches(max_chunksize=PART):
        yield from batch.to_pylist()


def fingerprint_of(table: pa.Table) -> str:
    """The identity of the rows that can be used, see `fingerprint`."""
    return fingerprint(_digests(table.select(RowDigest._fields)))


def _digests(table: pa.Table) -> Iterable[RowDigest]:
    return (RowDigest(**row) for row in verdict_rows(table) if row["ids"] is not None)
