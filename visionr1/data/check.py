"""Looks at every problem once, before GPUs are taken: what can be trained on, what cannot, and why."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from rich.table import Table

from visionr1.data.badrow import REMEDIES, BadRow, Kind, is_clean
from visionr1.data.fingerprint import RowDigest, digest, fingerprint
from visionr1.data.images import BadImage, fit_size, image_tokens, open_image
from visionr1.data.rows import Row
from visionr1.errors import BadInput
from visionr1.progress import progress

MAX_TEXT: Final = 100_000
"""Characters of a problem or an answer; far over any prompt, yet a tokenizer still copes."""

CountTokens = Callable[[Row], int]


@dataclass(frozen=True)
class BadRowNote:
    """A row that is left out: its place and id, the sort of mistake, what was found, what to do."""

    index: int
    id: str
    kind: Kind
    detail: str
    remedy: str


@dataclass(frozen=True)
class LongestPrompt:
    """In tokens, image tokens included."""

    id: str
    tokens: int


@dataclass(frozen=True)
class CheckReport:
    """Result of `check_problems`; `fingerprint` is that of the good rows in order."""

    rows: int
    good: list[int]
    bad: list[BadRowNote]
    longest_prompt: LongestPrompt | None
    fingerprint: str

    @property
    def counts(self) -> dict[Kind, int]:
        """Bad rows by kind, most frequent first."""
        return dict(Counter(note.kind for note in self.bad).most_common())

    def usable(self) -> list[int]:
        """Indices of the good rows. Raises BadInput if there is none."""
        if not self.good:
            kinds = ", ".join(f"{count} x {kind}" for kind, count in self.counts.items())
            first = f"; the first: {self.bad[0].id}: {self.bad[0].detail}; {self.bad[0].remedy}" if self.bad else ""
            raise BadInput(f"none of the {self.rows} rows can be used ({kinds}){first}")
        return self.good

    def to_json(self) -> dict[str, Any]:
        """All fields and the counts, as JSON types."""
        return {**asdict(self), "counts": self.counts}

    def table(self) -> Table:
        """For the terminal: a line for each kind of mistake with one example."""
        longest = (
            f"; longest prompt {self.longest_prompt.tokens} tokens ({self.longest_prompt.id})" if self.longest_prompt else ""
        )
        table = Table(title=f"{len(self.good)} of {self.rows} rows are good{longest}", title_justify="left")
        for header in ("problem", "rows", "for example", "what to do"):
            table.add_column(header, overflow="fold")
        examples = {note.kind: note for note in reversed(self.bad)}
        for kind, count in self.counts.items():
            table.add_row(kind, str(count), f"{examples[kind].id}: {examples[kind].detail}", REMEDIES[kind])
        return table


def check_row(row: Row, min_pixels: int, max_pixels: int) -> int:
    """Image tokens of a row that is sound but for its length (readers have counted its image marks). Raises BadRow."""
    for name, text in (("problem", row.problem), ("answer", row.answer)):
        if not is_clean(text):
            raise BadRow(row.id, "text unusable", f"the {name} holds a NUL character or a lone surrogate")
        if len(text) > MAX_TEXT:
            raise BadRow(row.id, "text too long", f"the {name} has {len(text):,} characters, over {MAX_TEXT:,}")
    if not row.answer.strip():
        raise BadRow(row.id, "answer missing", "the answer is empty")
    return sum(_image_tokens(row.id, data, min_pixels, max_pixels) for data in row.images)


def _image_tokens(row_id: str, data: bytes, min_pixels: int, max_pixels: int) -> int:
    try:
        image = open_image(data)
    except BadImage as error:
        raise BadRow(row_id, "image unreadable", str(error)) from None
    try:
        return image_tokens(*fit_size(image.width, image.height, min_pixels, max_pixels))
    except BadImage as error:
        raise BadRow(row_id, "image size", str(error)) from None


def check_problems(
    rows: Sequence[Row],
    *,
    min_pixels: int,
    max_pixels: int,
    max_prompt_tokens: int,
    count_prompt_tokens: CountTokens | None = None,
) -> CheckReport:
    """Reads each row once, in a few threads, with a progress bar.

    `count_prompt_tokens` counts the tokens of a prompt with one token for each image mark; it is given rows without
    their images and called by one thread at a time. Without it, only image tokens count towards the prompt.
    """
    turn = threading.Lock()

    def prompt_tokens(row: Row) -> int:
        tokens = check_row(row, min_pixels, max_pixels)
        if count_prompt_tokens is not None:
            with turn:
                tokens += count_prompt_tokens(replace(row, images=())) - len(row.images)
        if tokens > max_prompt_tokens:
            raise BadRow(row.id, "prompt too long", f"{tokens} tokens, over {max_prompt_tokens}")
        return tokens

    def look(index: int) -> tuple[LongestPrompt, RowDigest] | BadRowNote:
        try:
            row = rows[index]
            return LongestPrompt(row.id, prompt_tokens(row)), digest(row)
        except BadRow as bad:
            return BadRowNote(index, bad.row_id, bad.kind, bad.detail, REMEDIES[bad.kind])

    good: list[int] = []
    bad: list[BadRowNote] = []
    digests: list[RowDigest] = []
    longest: LongestPrompt | None = None
    # Threads, since decoding images is done outside Python's lock.
    with progress("checking problems", len(rows)) as advance, ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for index, seen in enumerate(pool.map(look, range(len(rows)))):
            advance(1)
            if isinstance(seen, BadRowNote):
                bad.append(seen)
                continue
            prompt, row_digest = seen
            good.append(index)
            digests.append(row_digest)
            longest = prompt if longest is None or prompt.tokens > longest.tokens else longest
    return CheckReport(len(rows), good, bad, longest, fingerprint(digests))
