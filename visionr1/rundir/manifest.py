"""What the manifest of a checkpoint says."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from visionr1.rundir.reading import Count


class FileEntry(BaseModel):
    """One file of a checkpoint; `path` is relative to the checkpoint's folder, with `/`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Manifest(BaseModel):
    """What `manifest.json` of a checkpoint says.

    `time` is in Unix seconds, `state` is the training loop's own. `epoch` is that of the attempt that committed it, or 0.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    phase: str
    step: int
    time: float
    state: dict[str, Any]
    files: tuple[FileEntry, ...]
    epoch: int = Field(default=0, ge=0)


class Place(BaseModel):
    """A sampler's place in the data, as a manifest's state has it under `sampler`: `index` rows of `epoch` have been drawn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int
    epoch: Count
    index: Count
    fingerprint: str
