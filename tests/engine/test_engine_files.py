"""What cannot be written ends in one line, also where safetensors writes it."""

import resource
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from visionr1.engine.weights import writing
from visionr1.storage import StorageError


def test_a_weights_file_that_the_disk_does_not_take_is_one_line(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(StorageError, match=r"larger than a file may be here; raise the limit") as caught, writing(tmp_path):
            save_file({"weight": torch.zeros(1000)}, tmp_path / "model.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(caught.value).startswith(f"{tmp_path}: ")
