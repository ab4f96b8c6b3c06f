"""Small pictures and the real problems."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_teacher import FakeTeacher, fake_teacher, write_problems
from PIL import Image

GEOMETRY3K = Path(__file__).parents[2].parent / "shared" / "data" / "geometry3k-sample"


def encode(image: Image.Image, image_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


@pytest.fixture
def png() -> bytes:
    return encode(Image.new("RGB", (56, 28), (10, 200, 30)))


@pytest.fixture
def geometry3k() -> Path:
    if not GEOMETRY3K.is_dir():
        pytest.skip("the ten real Geometry3K problems are not beside this checkout (../shared/data/geometry3k-sample)")
    return GEOMETRY3K


@pytest.fixture
def teacher() -> Iterator[FakeTeacher]:
    with fake_teacher() as server:
        yield server


@pytest.fixture
def problems(tmp_path: Path, png: bytes) -> Path:
    return write_problems(tmp_path / "problems", png, 6)
