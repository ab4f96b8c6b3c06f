"""What the samples of a run are, found out by all ranks together once and then kept."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from visionr1.data.kept import Kept
from visionr1.data.readers import FileRows
from visionr1.data.rows import Sample
from visionr1.data.verdicts import fingerprint_of, joined, read_verdicts, write_table, write_verdicts
from visionr1.engine.exchange import from_all, from_rank_0


def shared_fingerprint(samples: FileRows[Sample], kept: Kept, rank: int, world: int, device: torch.device) -> str:
    """The fingerprint of the samples that can be read, on every rank; called on all ranks at the same time.

    If rank 0 finds that nothing has changed since the samples were last read, it is the one that `kept` has. Else each rank
    reads its share; how many ranks there are makes no difference.
    """
    about = kept.about(samples, {})
    found = kept.read(samples, about) if rank == 0 else None
    known = from_rank_0(b"" if found is None else fingerprint_of(found).encode(), device)
    if known:
        return known.decode()
    with tempfile.TemporaryDirectory(prefix="visionr1-samples-") as folder:
        file = Path(folder) / "rows.arrow"
        write_verdicts(file, samples, range(rank, len(samples), world), lambda sample: None, "reading samples", about)
        shares = from_all(file.read_bytes(), device)
        mark = _keep(kept, shares, dict(about), Path(folder)) if rank == 0 else ""
    return from_rank_0(mark.encode(), device).decode()


def _keep(kept: Kept, shares: Sequence[bytes], about: dict[bytes, bytes], folder: Path) -> str:
    tables = []
    for reader, share in enumerate(shares):
        (folder / f"{reader}.arrow").write_bytes(share)
        tables.append(read_verdicts(folder / f"{reader}.arrow"))
    table = joined(tables)
    write_table(folder / "all.arrow", table, about)
    kept.put(folder / "all.arrow")
    return fingerprint_of(table)
