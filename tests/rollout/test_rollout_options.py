"""The options that vLLM gets on a GPU, which no test has."""

import os

import pytest

from visionr1.recipe import load_recipe
from visionr1.rollout import vllm

RECIPE = load_recipe("vision-r1")


def test_a_worker_that_sees_one_gpu_leaves_reductions_to_nccl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    vllm._prepare_environment(cuda=True)
    assert os.environ["VLLM_ALLREDUCE_USE_SYMM_MEM"] == os.environ["VLLM_ALLREDUCE_USE_FLASHINFER"] == "0"
    assert vllm.device_options(RECIPE, True, 4096, 0.4)["disable_custom_all_reduce"] is True


def test_on_a_gpu_the_engine_sleeps_and_takes_its_share() -> None:
    options = vllm.device_options(RECIPE, True, 4096, 0.4)
    assert options["enable_sleep_mode"] is True
    assert options["gpu_memory_utilization"] == 0.4
    assert "enforce_eager" not in options
