"""What an engine says of itself while it works."""

import threading
import time

import pytest

from visionr1.data.rows import Row
from visionr1.model.chat import PromptBuilder
from visionr1.model.prompt import Prompt
from visionr1.preflight.base import base_dir
from visionr1.recipe import load_recipe
from visionr1.rollout.build import build_engine
from visionr1.rollout.types import RolloutEngine, Sampling
from visionr1.rollout.vllm import is_tail

RECIPE = load_recipe("demo", ["rollout.cpu_kv_cache_gib=0.0079"])


@pytest.fixture(scope="module")
def cramped() -> tuple[RolloutEngine, list[Prompt]]:
    """vLLM with room for 32 blocks of 128 tokens, and prompts that all but fill a block."""
    directory = base_dir(RECIPE.model)
    builder = PromptBuilder(directory, RECIPE.model)
    empty = len(builder.build(Row("", "", (), "7")).token_ids)
    rows = [Row(str(digit), str(digit) * (124 - empty), (), "7") for digit in range(8)]
    return build_engine(directory, RECIPE, builder, max_model_len=384, gpu_share=0.6), [builder.build(row) for row in rows]


def test_a_scrape_in_the_middle_of_a_rollout_sees_the_engine_at_work(cramped: tuple[RolloutEngine, list[Prompt]]) -> None:
    engine, prompts = cramped
    seen, ended = [], threading.Event()

    def scrape() -> None:
        while not ended.is_set():
            seen.append(engine.live())
            time.sleep(0.005)

    reader = threading.Thread(target=scrape)
    reader.start()
    begun = time.perf_counter()
    engine.generate(prompts, Sampling(16, 200, 1.0), list(range(8)))
    ended.set()
    reader.join()
    assert max(one["vllm_running_requests"] for one in seen) >= 16
    assert max(one["vllm_waiting_requests"] for one in seen) > 0, "128 sequences do not fit"
    assert 0.9 < max(one["vllm_kv_cache_usage_ratio"] for one in seen) <= 1
    assert all(one["vllm_sleep_state"] == {"awake": 1, "discard_all": 0} for one in seen)
    preempted = [one["vllm_preemptions"] for one in seen]
    assert preempted == sorted(preempted) and preempted[-1] > 0
    tail = engine.tail_seconds()
    assert tail is not None and 0 < tail < time.perf_counter() - begun
    after = engine.live()
    assert (after["vllm_running_requests"], after["vllm_waiting_requests"]) == (0, 0)


def test_an_engine_says_that_it_sleeps_until_its_cache_is_back(cramped: tuple[RolloutEngine, list[Prompt]]) -> None:
    engine, _ = cramped
    engine.sleep()
    assert engine.live()["vllm_sleep_state"] == {"awake": 0, "discard_all": 1}
    engine.wake_weights()
    assert engine.live()["vllm_sleep_state"]["awake"] == 0
    engine.wake_cache()
    assert engine.live()["vllm_sleep_state"]["awake"] == 1


@pytest.mark.parametrize(
    ("running", "waiting", "expected"), [(63, 0, True), (64, 0, False), (1, 0, True), (0, 256, False), (10, 1, False)]
)
def test_the_tail_is_when_nothing_waits_and_few_slots_are_busy(running: int, waiting: int, expected: bool) -> None:
    assert is_tail(running, waiting, 256) == expected


def test_text_is_that_of_the_tokens_without_special_ones(cramped: tuple[RolloutEngine, list[Prompt]]) -> None:
    engine, prompts = cramped
    tokenizer = PromptBuilder(base_dir(RECIPE.model), RECIPE.model).tokenizer
    engine.wake_cache()
    for group in engine.generate(prompts[:2], Sampling(8, 24, 1.0), [1, 2]):
        for reply, completion in zip(group.replies(), group.completions, strict=True):
            assert completion.text == reply.text == tokenizer.decode(completion.token_ids, skip_special_tokens=True)
            assert reply.token_ids.tolist() == completion.token_ids and len(completion.logprobs) == len(completion.token_ids)
