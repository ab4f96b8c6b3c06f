"""Problems and samples from their sources, row by row, in the layouts that Vision-R1 released or with named columns."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Generic, TypeVar, overload

from visionr1.data.columns import answer_text, cell, problem_text, require_problems, require_samples, turn_texts, with_marks
from visionr1.data.difficulty import within
from visionr1.data.json_rows import Cells
from visionr1.data.options import read_options
from visionr1.data.pictures import Pictures, ReadFile, image_items, read_images
from visionr1.data.rows import Row, Sample
from visionr1.data.sources import Table, open_tables
from visionr1.errors import BadInput
from visionr1.recipe.source import Columns, Source

T = TypeVar("T")
Seen = Callable[[str, Pictures], None]


class Lazy(Sequence[T], Generic[T]):
    """Rows that are read only when asked for. A damaged row raises BadRow, and does not affect the others."""

    def __init__(self, size: int, make: Callable[[int], T]) -> None:
        self._size = size
        self._make = make

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self._make(place) for place in range(*index.indices(self._size))]
        return self._make(range(self._size)[index])


def select(rows: Sequence[T], indices: Sequence[int]) -> Sequence[T]:
    """The rows at `indices`, still read only when asked for."""
    return Lazy(len(indices), lambda place: rows[indices[place]])


def load_problems(source: Source) -> Sequence[Row]:
    """Problems in the geometry3k / Vision-R1-rl layout: `images` (or `image`), `problem` (or `question`), `answer`.

    `source.columns` names others. `options` (or `choices`), if there, give the grader the texts of a multiple choice
    (`visionr1.data.options`).

    Reading row i raises BadRow if that row is damaged; here only what spoils all rows raises BadInput. A row id is
    `<file>#<place>`, counted from 0. Images are encoded files, unopened: see `check_problems`.
    """
    if source.path.startswith("demo://"):
        rows = _demo(source.path)
        if source.difficulty is not None:
            raise BadInput(f"{source.path}: the demo's problems are made and not read; leave out difficulty")
        return select(rows, range(min(len(rows), source.limit or len(rows))))
    return FileRows(source, require_problems, _problem)


def load_samples(source: Source) -> FileRows[Sample]:
    """Chains of thought in either sharegpt layout of Vision-R1-cold (`image` or `images`, `conversations` of two turns).

    `source.columns` names others. Raises like `load_problems`.
    """
    return FileRows(source, require_samples, _sample)


def _demo(path: str) -> Sequence[Row]:
    name, _, split = path.removeprefix("demo://").partition("/")
    if name != "digits":
        raise BadInput(f"{path}: the demo has only digits; use demo://digits/train or demo://digits/held-out")
    # The one look upwards: the demo's rows exist only for this address, and nothing else here knows of it.
    from visionr1.data import digits

    return digits.problems(split)


class FileRows(Lazy[T]):
    """Rows of the data files of `source`, one after the other. `stamps` differ once one of these files has changed."""

    def __init__(
        self,
        source: Source,
        require: Callable[[Table, Columns | None], None],
        parse: Callable[[str, Cells, Columns | None, ReadFile], T],
    ) -> None:
        self._tables = open_tables(source.path, source.image_root)
        for table in self._tables:
            require(table, source.columns)
        self.source, self._parse = source, parse
        self._ends = list(accumulate(table.size for table in self._tables))
        self.stamps = [[table.name, table.stamp] for table in self._tables]
        size = min(self._ends[-1], source.limit or self._ends[-1])
        self._chosen: array[int] | None = None
        if source.difficulty is not None:
            listed = open_tables(source.difficulty.path, None)
            self.stamps += [[table.name, table.stamp] for table in listed]
            self._chosen = within(source.difficulty, listed, (self._id(*self._at(place)) for place in range(size)))
            size = len(self._chosen)
        super().__init__(size, self.look)

    def look(self, index: int, seen: Seen = lambda path, pictures: None) -> T:
        """Row `index`; `seen` is called with the path of each image file before it is read, and with where it lies."""
        table, place = self._at(self._place(index))

        def read(path: str) -> bytes:
            seen(path, table.pictures)
            return table.pictures.read(path)

        return self._parse(self._id(table, place), table.cells(place), self.source.columns, read)

    def pictures(self, index: int) -> Pictures:
        """Where the image files of row `index` lie."""
        return self._at(self._place(index))[0].pictures

    def _place(self, index: int) -> int:
        """Where row `index` is among all rows of the files."""
        return index if self._chosen is None else self._chosen[index]

    @staticmethod
    def _id(table: Table, place: int) -> str:
        return f"{table.name}#{place}"

    def _at(self, index: int) -> tuple[Table, int]:
        """The table of a row, and its place in there."""
        number = bisect_right(self._ends, index)
        table = self._tables[number]
        return table, index - (self._ends[number] - table.size)


def _problem(row_id: str, cells: Cells, columns: Columns | None, read: ReadFile) -> Row:
    problem = problem_text(row_id, cells, columns)
    answer = answer_text(row_id, cells, columns)
    problem, images = _illustrated(row_id, problem, cells, columns, read)
    return Row(row_id, problem, images, answer, read_options(cell(cells, columns, "options")))


def _sample(row_id: str, cells: Cells, columns: Columns | None, read: ReadFile) -> Sample:
    problem, response = turn_texts(row_id, cells, columns)
    problem, images = _illustrated(row_id, problem, cells, columns, read)
    return Sample(row_id, problem, images, response)


def _illustrated(
    row_id: str, problem: str, cells: Cells, columns: Columns | None, read: ReadFile
) -> tuple[str, tuple[bytes, ...]]:
    items = image_items(cell(cells, columns, "images"))
    problem = with_marks(problem, len(items), columns)
    return problem, read_images(row_id, problem, items, read)
