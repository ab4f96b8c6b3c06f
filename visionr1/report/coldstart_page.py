"""One page about the data that a cold start has written: samples beside their pictures, what the filters dropped, lengths."""

from __future__ import annotations

import base64
import io
import random
from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from visionr1.data.coldstart.load import load_coldstart
from visionr1.data.images import open_image
from visionr1.data.reflection import REFLECTION_WORDS, count_reflection
from visionr1.data.rows import Sample
from visionr1.errors import BadInput
from visionr1.progress import progress
from visionr1.report.page import filter_rows
from visionr1.report.showcase import Piece, pieces, shorten
from visionr1.report.template import rendered
from visionr1.report.words import count, percent
from visionr1.rundir.coldstart import ColdStartReport, read_report
from visionr1.rundir.layout import COLDSTART_PAGE, COLDSTART_REJECTED, COLDSTART_REPORT
from visionr1.storage import NotFound, Store

SHOWN: Final = 24
LOOKED_AT: Final = 2000
"""Samples whose lengths and words are counted; more take long and change little."""
_BINS: Final = 16
_PICTURE: Final = (360, 360)
_REJECTED_BYTES: Final = 4 << 20
_PER_RULE: Final = 3


@dataclass(frozen=True)
class Shown:
    """A sample with its pictures (base64 PNG), its response cut for reading, and its length in words."""

    id: str
    text: str
    images: list[str]
    pieces: list[Piece]
    words: int


@dataclass(frozen=True)
class Bar:
    """A row of a distribution; `share` is measured by the largest."""

    name: str
    number: int
    share: float


class _Dropped(BaseModel):
    """A line of rejected.jsonl."""

    model_config = ConfigDict(strict=True)

    id: str
    rule: str
    excerpt: str
    problem: str
    answer: str
    reply: str


def write_page(store: Store) -> str:
    """Writes `coldstart/inspect.html` and returns its key. Raises BadInput if the cold start has committed no data."""
    report = read_report(store)
    if report is None:
        raise BadInput(f"{store.url} has no {COLDSTART_REPORT}: run `visionr1 coldstart` first")
    store.write_bytes(COLDSTART_PAGE, _html(store, report).encode())
    return COLDSTART_PAGE


def _html(store: Store, report: ColdStartReport) -> str:
    samples = load_coldstart(store)
    places = sorted(random.Random(0).sample(range(len(samples)), min(LOOKED_AT, len(samples))))
    shown = set(random.Random(1).sample(places, min(SHOWN, len(places))))
    words: list[int] = []
    reflecting = dict.fromkeys(REFLECTION_WORDS, 0)
    chosen = []
    with progress("looking at samples", len(places)) as advance:
        for place in places:
            sample = samples[place]
            words.append(len(sample.response.split()))
            for word in count_reflection(sample.response):
                reflecting[word] += 1
            if place in shown:
                chosen.append(_shown(sample))
            advance(1)
    return rendered(
        "coldstart.html.j2",
        {"percent": percent, "count": count},
        url=store.url,
        report=report,
        filters=filter_rows(report),
        lengths=histogram(words),
        looked_at=len(places),
        reflecting=[Bar(word, number, number / max(1, len(places))) for word, number in reflecting.items()],
        samples=chosen,
        rejected=_rejected(store),
    )


def _shown(sample: Sample) -> Shown:
    text = sample.problem.replace("<image>", "").strip()
    return Shown(
        sample.id,
        text,
        [_picture(image) for image in sample.images],
        shorten(pieces(sample.response)),
        len(sample.response.split()),
    )


def _picture(image: bytes) -> str:
    small = open_image(image)
    small.thumbnail(_PICTURE)
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def histogram(words: list[int]) -> list[Bar]:
    """How many responses have how many words, in at most _BINS bins of one width."""
    if not words:
        return []
    low, high = min(words), max(words)
    width = max(1, -(-(high - low + 1) // _BINS))
    numbers = [0] * (-(-(high - low + 1) // width))
    for length in words:
        numbers[(length - low) // width] += 1
    starts = [low + place * width for place in range(len(numbers))]
    return [
        Bar(f"{start:,} to {start + width - 1:,}", number, number / max(numbers))
        for start, number in zip(starts, numbers, strict=True)
    ]


def _rejected(store: Store) -> dict[str, list[_Dropped]]:
    """The first dropped chains of each rule, if the recipe has kept them."""
    try:
        data = store.read_bytes(COLDSTART_REJECTED, _REJECTED_BYTES)
    except NotFound:
        return {}
    found: defaultdict[str, list[_Dropped]] = defaultdict(list)
    for line in data.splitlines()[: None if len(data) < _REJECTED_BYTES else -1]:
        try:
            one = _Dropped.model_validate_json(line)
        except ValidationError:
            raise BadInput(f"{store.url}/{COLDSTART_REJECTED} has a line that is no dropped chain; delete the file") from None
        if len(found[one.rule]) < _PER_RULE:
            found[one.rule].append(one)
    return dict(found)
