"""Each rank of a node computes on a GPU of its own; torch's CUDA is played, because there is no GPU here."""

import pytest
import torch

from visionr1.model.device import device_of
from visionr1.recipe import load_recipe


@pytest.mark.parametrize(("local_rank", "expected"), [("0", 0), ("3", 3), (None, 0)])
def test_a_rank_takes_its_own_gpu_before_anything_else(
    monkeypatch: pytest.MonkeyPatch, local_rank: str | None, expected: int
) -> None:
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    if local_rank is None:
        monkeypatch.delenv("LOCAL_RANK", raising=False)
    else:
        monkeypatch.setenv("LOCAL_RANK", local_rank)
    recipe = load_recipe("demo", ["rollout.device=auto"])
    assert device_of(recipe) == torch.device("cuda", expected)
    assert current == [torch.device("cuda", expected)]


def test_without_a_gpu_it_is_the_cpu() -> None:
    assert device_of(load_recipe("demo", ["rollout.device=cpu"])) == torch.device("cpu")
