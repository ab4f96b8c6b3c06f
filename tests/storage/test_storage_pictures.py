"""The limit on the size of an image file holds in a bucket as it does in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from visionr1.data import pictures
from visionr1.storage import open_store


@pytest.mark.parametrize("where", ["bucket", "folder"])
def test_an_image_over_the_limit_is_not_read(where: str, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_IMAGE_BYTES", 1 << 20)
    root = s3_url if where == "bucket" else str(tmp_path)
    store = open_store(root)
    store.write_bytes("good.png", bytes(1 << 20))
    store.write_bytes("large.png", bytes((1 << 20) + 1))
    found = pictures.pictures_below(root)
    assert len(found.read("good.png")) == 1 << 20
    with pytest.raises(PermissionError, match=r"large.png is larger than 1 MiB"):
        found.read("large.png")
