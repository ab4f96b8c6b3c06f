"""Looks at every row once, before GPUs are taken: what can be trained on, what cannot, and why."""

from __future__ import annotations

import re
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import pyarrow as pa
from rich.table import Table
from rich.text import Text

from visionr1.data.badrow import REMEDIES, BadRow, Kind, is_clean, one_line
from visionr1.data.damage import eaten, repaired, unreadable
from visionr1.data.images import BadImage, fit_size, image_tokens, open_image
from visionr1.data.kept import Kept
from visionr1.data.readers import FileRows
from visionr1.data.rows import Row, Sample
from visionr1.data.verdicts import fingerprint_of, read_verdicts, verdict_rows, write_verdicts
from visionr1.errors import BadInput

MAX_TEXT: Final = 100_000
"""Characters of a problem or an answer; far over any prompt, yet a tokenizer still copes."""
MAX_RESPONSE: Final = 400_000
"""Characters of a chain of thought."""

T = TypeVar("T", Row, Sample)
CountTokens = Callable[[Row], int]
CountSampleTokens = Callable[[Sample], int]


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
    """Result of `check_problems` and `check_samples`; `fingerprint` covers the good rows, in order."""

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

    def lines(self) -> list[str]:
        """One line for each bad row: its id, what is wrong with it, and what was found."""
        return [f"{note.id}: {note.kind}: {note.detail}" for note in self.bad]

    def closing(self) -> str:
        """The whole result in a line."""
        return f"{len(self.good)} of {self.rows} rows are good, {len(self.bad)} are left out"

    def to_json(self) -> dict[str, Any]:
        """All fields and the counts, as JSON types."""
        return {**asdict(self), "counts": self.counts}

    def table(self) -> Table:
        """For the terminal: a line for each kind of mistake with one example."""
        longest = (
            f"; longest prompt {self.longest_prompt.tokens} tokens ({self.longest_prompt.id})" if self.longest_prompt else ""
        )
        table = Table(title=Text(f"{len(self.good)} of {self.rows} rows are good{longest}"), title_justify="left")
        for header in ("problem", "rows", "for example", "what to do"):
            table.add_column(header, overflow="fold")
        examples = {note.kind: note for note in reversed(self.bad)}
        for kind, count in self.counts.items():
            table.add_row(kind, str(count), Text(f"{examples[kind].id}: {examples[kind].detail}"), REMEDIES[kind])
        return table


def check_row(row: Row, min_pixels: int, max_pixels: int) -> int:
    """Image tokens of a row that is sound but for its length (readers have counted its image marks). Raises BadRow."""
    _check_text(row.id, "problem", row.problem, MAX_TEXT)
    _check_text(row.id, "answer", row.answer, MAX_TEXT)
    if not row.answer.strip():
        raise BadRow(row.id, "answer missing", "the answer is empty")
    if fault := unreadable(repaired(row.answer)):
        raise BadRow(row.id, "answer unreadable", f"the answer has {fault}: {row.answer}")
    return sum(_image_tokens(row.id, data, min_pixels, max_pixels) for data in row.images)


def check_sample_text(sample: Sample) -> None:
    """Raises BadRow for a chain of thought with a text that cannot be trained on. Images and length in tokens are not checked.

    A response may do without a thought (the paper's ablation does), but its think and answer blocks must be whole, one each,
    in this order.
    """
    _check_text(sample.id, "problem", sample.problem, MAX_TEXT)
    _check_text(sample.id, "response", sample.response, MAX_RESPONSE)
    if not sample.response.strip():
        raise BadRow(sample.id, "answer missing", "the response is empty")
    if fault := _tag_fault(sample.response):
        raise BadRow(sample.id, "row malformed", f"the response has {fault}")


def _tag_fault(response: str) -> str:
    """What is wrong with its think and answer blocks, either of which may be missing; "" if nothing is."""
    tags = re.findall("</?(?:think|answer)>", response)
    for name in ("think", "answer"):
        opened, closed = tags.count(f"<{name}>"), tags.count(f"</{name}>")
        if opened != closed:
            return f"{opened} <{name}> and {closed} </{name}>"
        if opened > 1:
            return f"{opened} {name} blocks"
    in_order = [tag for tag in ("<think>", "</think>", "<answer>", "</answer>") if tag in tags]
    return "" if tags == in_order else f"its tags in the wrong order: {' '.join(tags)}"


def _check_text(row_id: str, name: str, text: str, longest: int) -> None:
    if not is_clean(text):
        raise BadRow(row_id, "text unusable", f"the {name} has a NUL character or a lone surrogate")
    if place := eaten(text):
        raise BadRow(row_id, "text damaged", f"the {name} has {place}")
    if len(text) > longest:
        raise BadRow(row_id, "text too long", f"the {name} has {len(text):,} characters, over {longest:,}")


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
    kept: Kept | None = None,
) -> CheckReport:
    """Reads each row once, in a few threads, with a progress bar; not at all if `kept` has the result for unchanged files.

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

    limits = {"min_pixels": min_pixels, "max_pixels": max_pixels, "max_prompt_tokens": max_prompt_tokens}
    return _check(rows, prompt_tokens, "checking problems", kept, limits)


def check_samples(
    samples: Sequence[Sample],
    *,
    min_pixels: int,
    max_pixels: int,
    cutoff_tokens: int,
    count_tokens: CountSampleTokens | None = None,
) -> CheckReport:
    """As `check_problems`, for the chains of thought of SFT: prompt and response together count towards `cutoff_tokens`."""
    turn = threading.Lock()

    def tokens_of(sample: Sample) -> int:
        check_sample_text(sample)
        tokens = sum(_image_tokens(sample.id, data, min_pixels, max_pixels) for data in sample.images)
        if count_tokens is not None:
            with turn:
                tokens += count_tokens(replace(sample, images=())) - len(sample.images)
        if tokens > cutoff_tokens:
            raise too_long(sample, tokens, cutoff_tokens)
        return tokens

    return _check(samples, tokens_of, "checking samples", None, {})


def too_long(sample: Sample, tokens: int, cutoff_tokens: int) -> BadRow:
    """The error of a sample with more tokens in prompt and response than SFT takes."""
    return BadRow(sample.id, "sample too long", f"{tokens} tokens, over sft.cutoff_tokens ({cutoff_tokens})")


def _check(
    rows: Sequence[T], tokens_of: Callable[[T], int], title: str, kept: Kept | None, limits: Mapping[str, int]
) -> CheckReport:
    about = kept.about(rows, limits) if kept and isinstance(rows, FileRows) else {}
    if kept and isinstance(rows, FileRows) and (found := kept.read(rows, about)) is not None:
        return _report(found)
    with tempfile.TemporaryDirectory(prefix="visionr1-check-") as folder:
        file = Path(folder) / "rows.arrow"
        write_verdicts(file, rows, range(len(rows)), tokens_of, title, about)
        if about and kept:
            kept.put(file)
        return _report(read_verdicts(file))


def _report(table: pa.Table) -> CheckReport:
    good: list[int] = []
    bad: list[BadRowNote] = []
    longest: LongestPrompt | None = None
    for index, row in enumerate(verdict_rows(table.select(["id", "tokens", "kind", "detail"]))):
        if row["kind"] is not None:
            bad.append(BadRowNote(index, one_line(row["id"]), row["kind"], one_line(row["detail"] or ""), REMEDIES[row["kind"]]))
            continue
        good.append(index)
        if longest is None or (row["tokens"] or 0) > longest.tokens:
            longest = LongestPrompt(one_line(row["id"]), row["tokens"] or 0)
    return CheckReport(table.num_rows, good, bad, longest, fingerprint_of(table))
