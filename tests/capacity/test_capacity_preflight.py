"""What surely does not fit is one line with a remedy; what may fit, and what is not known, is let through."""

import pytest

from visionr1.capacity.cards import parse_fleet
from visionr1.capacity.preflight import fleet_of_driver, gpus_here, memory_faults
from visionr1.recipe import load_recipe, phases

ALL_GIVEN = (
    "optimiser.zero_stage=2",
    "optimiser.micro_batch_tokens=8192",
    "algorithm.reference_device=gpu",
    "rollout.gpu_memory_utilization=0.9",
)
"""Leaves nothing open, so the engine takes the recipe at its word."""


def faults(gpus: str, *overrides: str) -> list[str]:
    fleet = parse_fleet(gpus)
    recipe = load_recipe("vision-r1", [f"rollout.workers={fleet.count}", *overrides])
    return memory_faults(recipe, phases(recipe), fleet)


def test_what_fits_has_no_faults() -> None:
    assert faults("64xH800") == faults("8xH100") == []


def test_each_phase_that_does_not_fit_is_a_line_with_a_remedy() -> None:
    sft, first, second = faults("4xL40S")
    assert first.startswith("stage-1 does not fit on 4 x L40S: in the moment 'step' each needs 44.9 GiB of the 40.8 that may")
    assert "; --gpus 16xL40S makes it fit (visionr1 plan shows all of it; preflight: warn" in first
    assert sft.startswith("sft does not fit") and second.startswith("stage-2 does not fit")
    assert all("\n" not in line for line in (sft, first, second))


def test_a_recipe_at_its_word_may_use_what_is_kept_free() -> None:
    tight = [*ALL_GIVEN, "sft=null", "stages=[{max_completion_tokens: 4096, group_size: 16}]"]
    assert faults("8xH800", *tight, "algorithm.reference_device=host") == []  # 74 GiB of 79, though 73 should be kept
    (line,) = faults("8xH800", *tight)
    assert "stage-1 does not fit" in line and "rollout.gpu_memory_utilization=null" in line


@pytest.mark.parametrize("overrides", [["rollout.device=cpu"], ["model.base=nobody/nothing"]])
def test_what_is_not_known_is_let_through(overrides: list[str]) -> None:
    assert faults("4xL40S", *overrides) == []


def test_the_driver_s_list_is_the_fleet() -> None:
    fleet = fleet_of_driver("NVIDIA H100 80GB HBM3, 81559\nNVIDIA H100 80GB HBM3, 81000\n", 2)
    assert fleet is not None and (fleet.count, fleet.card.name) == (2, "H100")
    assert fleet.card.gib == pytest.approx(0.99 * 81_000 / 1024)
    assert fleet_of_driver("NVIDIA GeForce RTX 4090, 24564\n", 1) is None
    assert fleet_of_driver("No devices were found\n", 1) is None
    assert fleet_of_driver("", 1) is None


def test_another_ray_cluster_s_gpus_are_not_these() -> None:
    assert gpus_here(load_recipe("vision-r1"), {"RAY_ADDRESS": "10.0.0.1:6379"}) is None
