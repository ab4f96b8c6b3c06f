"""Verdicts on rows that a run directory keeps, so that a run which goes on need not look at every image again.

They are used only while nothing has changed: neither the data files nor the image files (by size and time, or ETag), neither what
is read of them nor the limits. Others may write to a run directory: a file in it is read as data is, and is never unpickled.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from visionr1.data.badrow import one_line
from visionr1.data.readers import FileRows
from visionr1.data.regular import require_regular
from visionr1.data.rows import Row, Sample
from visionr1.data.verdicts import PART, About, Damaged, read_verdicts
from visionr1.errors import BadInput
from visionr1.progress import progress
from visionr1.storage import NotFound, Store
from visionr1.version import version_line

AnyRows = FileRows[Row] | FileRows[Sample]
_ABOUT: Final = b"visionr1"
_LOOKING: Final = 16
"""Threads that ask for the times of files: on a shared disk each answer takes a while."""


@dataclass(frozen=True)
class Kept:
    """Where verdicts on one source are kept: `key` in the run directory `store`.

    `counter` identifies what counts tokens, since other tokens make other verdicts.
    """

    store: Store
    key: str
    counter: str = ""

    def about(self, rows: AnyRows, limits: Mapping[str, int]) -> About:
        """All that verdicts on these rows depend on, except for the image files."""
        about: dict[str, Any] = {
            "program": version_line(),
            "source": rows.source.model_dump(mode="json"),
            "files": rows.stamps,
            "limits": dict(limits),
            "counter": self.counter,
        }
        return {_ABOUT: json.dumps(about, sort_keys=True).encode()}

    def read(self, rows: AnyRows, about: About) -> pa.Table | None:
        """The verdicts on these rows, or None, with a line that says why, if the rows must be looked at again."""
        if not all(stamp for _, stamp in rows.stamps):
            self._again("nobody can tell whether the data files have changed")
            return None
        try:
            with tempfile.TemporaryDirectory(prefix="visionr1-checked-") as folder:
                table = read_verdicts(self._file(Path(folder)))
        except NotFound:
            return None
        except (Damaged, BadInput) as error:
            self._again(f"it cannot be read ({one_line(str(error))})")
            return None
        if (table.schema.metadata or {}).get(_ABOUT) != about[_ABOUT] or table.num_rows != len(rows):
            self._again("the data files, the limits or the program have changed since")
            return None
        changed = _changed(table, rows)
        if changed is not None:
            self._again(f"the image {one_line(changed)} has changed since")
            return None
        print(f"{self.key}: {len(rows):,} rows were checked before and have not changed", flush=True)
        return table

    def put(self, file: Path) -> None:
        """Keeps a file of verdicts. Raises StorageError."""
        self.store.put_file(file, self.key)

    def _file(self, folder: Path) -> Path:
        file = self.store.local_path(self.key)
        if file is None:
            file = folder / "rows.arrow"
            self.store.get_file(self.key, file)
        try:
            require_regular(file, os.stat(file))
        except FileNotFoundError:
            raise NotFound(self.key) from None
        return file

    def _again(self, reason: str) -> None:
        print(f"{self.key}: {reason}; looking at every row again", flush=True)


def _changed(table: pa.Table, rows: AnyRows) -> str | None:
    """The first image file whose stamp is not the one in the verdicts."""
    batches = table.select(["paths", "stamps"]).to_batches(max_chunksize=PART)
    starts = accumulate((batch.num_rows for batch in batches), initial=0)

    def look(start: int, batch: pa.RecordBatch) -> str | None:
        for place, row in enumerate(batch.to_pylist(), start):
            pictures = rows.pictures(place)
            for path, stamp in zip(row["paths"], row["stamps"], strict=True):
                if pictures.stamp(path) != stamp:
                    return str(path)
        return None

    with progress("looking for changed images", len(rows)) as advance, ThreadPoolExecutor(_LOOKING) as pool:
        for batch, changed in zip(batches, pool.map(look, starts, batches), strict=True):
            advance(batch.num_rows)
            if changed is not None:
                pool.shutdown(cancel_futures=True)
                return changed
    return None
