"""Faults that others met, planted in a worker and left to do their harm for one step at the demo's learning rate.

The loop's own checks must stop the run, and name the likely cause.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from rollout_worker import ROWS, SAMPLING, Stage, tied_model

from visionr1.data.rows import Row
from visionr1.grpo import worker as worker_module
from visionr1.grpo.parity import LARGEST, LIMITS
from visionr1.model.chat import PromptBuilder
from visionr1.model.pack import PromptTensors, prompt_tensors
from visionr1.model.prompt import Prompt
from visionr1.preflight.base import base_dir
from visionr1.recipe import load_recipe
from visionr1.rollout.vllm import VllmEngine


def vllm_of(stage: Stage) -> Any:
    """vLLM's own object."""
    assert isinstance(stage.worker._engine, VllmEngine)
    return stage.worker._engine._llm


def runner(stage: Stage) -> Any:
    return vllm_of(stage).llm_engine.model_executor.driver_worker.worker.model_runner


@pytest.fixture(scope="session")  # an engine that ends takes vLLM's process groups from all engines of the process
def stages() -> dict[str, Stage]:
    return {}


@pytest.fixture
def begin(stages: dict[str, Stage], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Stage]:
    """The stage of an engine, started once."""

    def stage(name: str) -> Stage:
        if name not in stages:
            base = "demo"
            if name == "tied":
                base = tied_model(tmp_path_factory.mktemp("tied"), base_dir(load_recipe("demo").model))
            stages[name] = Stage("hf" if name == "hf" else "vllm", base)
        return stages[name]

    return stage


@pytest.fixture(params=["vllm", "hf"])
def stage(request: pytest.FixtureRequest, begin: Callable[[str], Stage]) -> Iterator[Stage]:
    with begin(request.param).repaired():
        yield begin(request.param)


@pytest.fixture(params=["vllm", "hf", "tied"])
def every_stage(request: pytest.FixtureRequest, begin: Callable[[str], Stage]) -> Iterator[Stage]:
    with begin(request.param).repaired():
        yield begin(request.param)


@pytest.fixture
def vllm_stage(begin: Callable[[str], Stage]) -> Iterator[Stage]:
    with begin("vllm").repaired():
        yield begin("vllm")


@pytest.fixture
def tied_stage(begin: Callable[[str], Stage]) -> Iterator[Stage]:
    with begin("tied").repaired():
        yield begin("tied")


def test_a_healthy_step_is_far_within_the_limits(every_stage: Stage) -> None:
    stats = every_stage.update()
    every_stage.worker.sync()
    probe = every_stage.probe()
    for mean, largest in [(stats["logprob_mismatch"], stats["logprob_mismatch_max"])] + [
        (gap.mean, gap.largest) for gap in (probe.problem, probe.words)
    ]:
        assert mean <= LIMITS["float32"] / 10
        assert largest <= LARGEST * LIMITS["float32"] / 10


def test_a_sync_wakes_weights_loads_and_then_wakes_the_cache(vllm_stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """trl#5142: weights loaded into a sleeping engine; vime#190: a sleep that keeps the weights in the host's memory."""
    vllm, order = vllm_of(vllm_stage), []
    for name in ("sleep", "wake_up", "collective_rpc"):
        original = getattr(vllm, name)

        def recorded(*arguments: Any, original: Any = original, name: str = name, **named: Any) -> Any:
            order.append((name, named.get("level") or named.get("tags") or arguments[0]))
            return original(*arguments, **named)

        monkeypatch.setattr(vllm, name, recorded)
    vllm_stage.update()
    vllm_stage.worker.sync()
    monkeypatch.undo()
    assert order == [("sleep", 2), ("wake_up", ["weights"]), ("collective_rpc", "reload_weights"), ("wake_up", ["kv_cache"])]


def test_a_sync_empties_the_encoder_cache(vllm_stage: Stage) -> None:
    vllm_stage.update()
    vllm_stage.worker.sync()
    engine, seen = vllm_stage.worker._engine, vllm_stage.worker._seen
    assert seen is not None
    engine.generate([seen], SAMPLING, [1])
    assert runner(vllm_stage).encoder_cache, "the engine keeps what its vision tower made while it is awake"
    engine.sleep()
    vllm_stage.worker.sync()
    assert not runner(vllm_stage).encoder_cache


def test_a_stale_image_embedding_stops_the_run(vllm_stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """vllm#44910: embeddings of the old vision tower are served after an update, because they are kept by the picture alone."""
    core = type(vllm_of(vllm_stage).llm_engine.engine_core.engine_core)
    with monkeypatch.context() as plant:
        # A sleep and `_forget` both empty the cache; a fault must get past both.
        plant.setattr(core, "reset_encoder_cache", lambda self: None)
        plant.setattr(type(runner(vllm_stage)), "reset_encoder_cache", lambda self: None)
        found = vllm_stage.step()
    assert found and "image embeddings or prefixes of old weights" in found


def test_a_sync_that_does_not_reach_the_engine_stops_the_run(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage.worker._engine, "load_weights", lambda weights: None)
    found = stage.step()
    monkeypatch.undo()
    assert found and "does not serve the trained weights" in found


def test_a_stale_head_stops_the_run(every_stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = every_stage.worker._engine
    if every_stage.worker._trainer.policy.inner.config.tie_word_embeddings:
        monkeypatch.setattr(VllmEngine, "_renew_head", lambda self: None)
    else:
        load = engine.load_weights
        monkeypatch.setattr(engine, "load_weights", lambda weights: load(w for w in weights if w[0] != "lm_head.weight"))
    found = every_stage.step()
    monkeypatch.undo()
    assert found and "a head tied to the embeddings" in found


def test_a_tied_head_follows_every_update(tied_stage: Stage) -> None:
    """On a CPU vLLM keeps a packed copy of the head, and a reload alone leaves a tied one as it was."""
    assert tied_stage.worker._trainer.policy.inner.config.tie_word_embeddings
    assert "lm_head.weight" not in dict(tied_stage.worker._trainer.weights())
    for _ in range(3):
        assert tied_stage.step() is None


def test_a_prompt_that_is_expanded_twice_stops_the_run(vllm_stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM takes the processor's expanded ids and expands them again, without a message."""
    build = PromptBuilder.build

    def expanded(self: PromptBuilder, row: Row) -> Prompt:
        prompt = build(self, row)
        return Prompt(self.expand(prompt), prompt.images)

    with monkeypatch.context() as plant:
        plant.setattr(PromptBuilder, "build", expanded)
        with pytest.raises(RuntimeError, match="one placeholder an image"):
            vllm_stage.step()
    vllm_stage.worker.sync()
    vllm_stage.update()


def test_a_sampled_image_token_stops_the_run(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """R1-V#91: without the ban the policy says <|image_pad|> sooner or later, and its picture's features no longer fit."""
    engine = stage.worker._engine
    stage.worker.rollout(ROWS, SAMPLING, list(range(len(ROWS))))
    likely = stage.worker._sampled[0].group.completions[0].token_ids[0]
    with torch.no_grad():
        head_VD = stage.worker._trainer.policy.inner.lm_head.weight
        kept_VD = head_VD.clone()
        head_VD[stage.worker._builder.banned_token_ids] = 2 * head_VD[likely]
    stage.worker.sync()
    stage.worker.rollout(ROWS, SAMPLING, list(range(len(ROWS))))
    stage.worker.sync()
    with monkeypatch.context() as plant:
        plant.setattr(
            engine, "_banned" if isinstance(engine, VllmEngine) else "_bias", {} if isinstance(engine, VllmEngine) else None
        )
        with pytest.raises(RuntimeError, match=r"sampled a vision token .* although it is banned.* ignores the bias"):
            stage.worker.rollout(ROWS, SAMPLING, list(range(len(ROWS))))
    with torch.no_grad():
        head_VD.copy_(kept_VD)


def test_positions_without_token_types_stop_the_run(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `mm_token_type_ids` transformers falls back to text positions, and says nothing."""

    def textual(model: torch.nn.Module, token_ids: list[int], images: Any, image_token_id: int) -> PromptTensors:
        return replace(
            prompt_tensors(model, token_ids, images, image_token_id), positions_3P=torch.arange(len(token_ids)).expand(3, -1)
        )

    monkeypatch.setattr(worker_module, "prompt_tensors", textual)
    found = stage.step()
    monkeypatch.undo()
    assert found and "mm_token_type_ids" in found


def test_a_wrong_temperature_stops_the_run(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """trl#4159: the engine samples at the recipe's temperature, the trainer scores at another."""
    monkeypatch.setattr(stage.worker._trainer.policy.inner.lm_head, "temperature", 0.99)
    found = stage.step()
    monkeypatch.undo()
    assert found and "rollout.temperature" in found
