"""What data a run was trained on, as one short line that can be compared."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from visionr1.data.rows import Row, Sample


class RowDigest(NamedTuple):
    """Hashes of one row's parts, so that a difference can be named."""

    ids: bytes
    texts: bytes
    images: bytes


def digest(row: Row | Sample) -> RowDigest:
    """The content identity of a row; lengths go into the hashes, so parts cannot run into one another."""
    truths = [row.answer, *row.options] if isinstance(row, Row) else [row.response]
    return RowDigest(_hash([row.id]), _hash([row.problem, *truths]), _hash(row.images))


def fingerprint(digests: Iterable[RowDigest]) -> str:
    """The identity of rows in their order: `rows=2101 ids=5c0d.. texts=88a1.. images=03fe..`."""
    count = 0
    totals = [hashlib.sha256() for _ in RowDigest._fields]
    for row in digests:
        count += 1
        for total, part in zip(totals, row, strict=True):
            total.update(part)
    parts = (f"{name}={total.hexdigest()[:16]}" for name, total in zip(RowDigest._fields, totals, strict=True))
    return " ".join((f"rows={count}", *parts))


def difference(before: str, now: str) -> str:
    """What changed between two fingerprints, in words; empty for equal ones."""
    if before == now:
        return ""
    old, new = (dict(part.partition("=")[::2] for part in text.split()) for text in (before, now))
    if old.get("rows") != new.get("rows"):
        return f"{old.get('rows')} rows before, {new.get('rows')} now"
    return f"other {', '.join(name for name in new if old.get(name) != new[name])} in the same number of rows"


def _hash(parts: Iterable[str | bytes]) -> bytes:
    total = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")
        total.update(len(data).to_bytes(8, "big"))
        total.update(data)
    return total.digest()
