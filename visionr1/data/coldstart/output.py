"""The cold-start data as the run directory keeps it, and what the report about it counts.

Samples are written in Vision-R1-cold's LLaVA-CoT layout, one JSON object per line. Images are files in the folder next to them:
`coldstart/data.jsonl` and `coldstart/images/<hash>.<suffix>`; `visionr1.rundir.coldstart` then commits them.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from visionr1.data.coldstart.filters import Rejection
from visionr1.data.images import image_suffix
from visionr1.data.readers import load_samples
from visionr1.data.reflection import REFLECTION_WORDS, count_reflection
from visionr1.data.rows import Row, Sample
from visionr1.errors import BadInput
from visionr1.progress import progress
from visionr1.recipe.schema import Source
from visionr1.rundir.coldstart import ColdStartReport, Example, committed_samples
from visionr1.rundir.layout import COLDSTART_DATA, coldstart_image
from visionr1.storage import Store

WRITERS: Final = 16
"""Images are written side by side, since each waits for a disk or for S3."""


def make_report(ids: Sequence[str], outcomes: Sequence[str | Rejection], asked: int, reused: int) -> ColdStartReport:
    """From each problem's response, or the reason why it has none."""
    responses = [outcome for outcome in outcomes if isinstance(outcome, str)]
    rejections = [(row_id, outcome) for row_id, outcome in zip(ids, outcomes, strict=True) if isinstance(outcome, Rejection)]
    words: Counter[str] = Counter()
    for response in responses:
        words += count_reflection(response)
    return ColdStartReport(
        problems=len(outcomes),
        kept=len(responses),
        rejected=dict(Counter(rejection.rule for _, rejection in rejections).most_common()),
        examples={rejection.rule: Example(id=row_id, excerpt=rejection.excerpt) for row_id, rejection in reversed(rejections)},
        reflection_words={word: words[word] for word in REFLECTION_WORDS},
        mean_words=sum(len(response.split()) for response in responses) / max(1, len(responses)),
        asked=asked,
        reused=reused,
    )


def write_samples(store: Store, rows: Sequence[Row], responses: Sequence[tuple[int, str]]) -> None:
    """Writes `data.jsonl` and its images; `responses` are pairs of a row's index and its response."""
    written: set[str] = set()

    def write(place: tuple[int, str]) -> str:
        index, response = place
        row = rows[index]
        return json.dumps(_line(row, response, [_write_image(store, image, written) for image in row.images]))

    with tempfile.TemporaryDirectory(prefix="visionr1-coldstart-") as folder:
        file = Path(folder) / "data.jsonl"
        with (
            file.open("w", encoding="utf-8") as lines,
            ThreadPoolExecutor(WRITERS) as pool,
            progress("writing samples", len(responses)) as advance,
        ):
            for line in pool.map(write, responses):
                lines.write(line + "\n")
                advance(1)
        store.put_file(file, COLDSTART_DATA)


def _write_image(store: Store, image: bytes, written: set[str]) -> str:
    """The image's path relative to `data.jsonl`."""
    path, key = coldstart_image(f"{hashlib.sha256(image).hexdigest()[:32]}{image_suffix(image)}")
    if key not in written:
        store.write_bytes(key, image)
        written.add(key)
    return path


def _line(row: Row, response: str, images: list[str]) -> dict[str, object]:
    turns = [{"from": "human", "value": row.problem}, {"from": "gpt", "value": response}]
    return {"id": row.id, "image": images[0] if len(images) == 1 else images, "conversations": turns}


def load_coldstart(store: Store) -> Sequence[Sample]:
    """The samples that the run's cold start has committed; images are read when a sample is.

    Raises BadInput if there are none yet, or not as many as were committed.
    """
    expected = committed_samples(store)
    if expected is None:
        raise BadInput(f"{store.url} has no cold-start data: run `visionr1 coldstart` first, or set sft.data")
    samples = load_samples(Source(path=f"{store.url}/{COLDSTART_DATA}"))
    if len(samples) != expected:
        raise BadInput(f"{store.url}/{COLDSTART_DATA} has {len(samples)} samples, {expected} were committed; restore the file")
    return samples
