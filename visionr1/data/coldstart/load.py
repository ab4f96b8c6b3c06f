"""The samples that a run's cold start has committed, for SFT and for people; it needs no more than the readers."""

from __future__ import annotations

from collections.abc import Sequence

from visionr1.data.readers import load_samples
from visionr1.data.rows import Sample
from visionr1.errors import BadInput
from visionr1.recipe.source import Source
from visionr1.rundir import layout
from visionr1.rundir.coldstart import committed_samples
from visionr1.storage import Store


def load_coldstart(store: Store) -> Sequence[Sample]:
    """The samples that the run's cold start has committed; images are read when a sample is.

    Raises BadInput if there are none yet, or not as many as were committed.
    """
    expected = committed_samples(store)
    if expected is None:
        raise BadInput(f"{store.url} has no cold-start data: run `visionr1 coldstart` first, or set sft.data")
    key = layout.COLDSTART_DATA
    samples = load_samples(Source(path=f"{store.url}/{key}"))
    if len(samples) != expected:
        raise BadInput(f"{store.url}/{key} has {len(samples)} samples, {expected} were committed; restore the file")
    return samples
