"""A copy of the demo's model that a test may damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from visionr1.capacity.model import DEMO_BASE


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEMO_BASE, tmp_path / "base"))
