"""The engine's log-probs are the trainer's, token by token: before updates, after them, after other weights."""

from pathlib import Path

import pytest
import torch
from rollout_pair import LIMIT, Pair, engine_logps

from visionr1.demo.tiny import save, tiny_model


def test_the_base_agrees_with_the_trainer(pair: Pair) -> None:
    groups = pair.sample()
    assert [group.prompt_token_ids for group in groups] == [pair.builder.expand(prompt) for prompt in pair.prompts()]
    differences = (pair.trainer_logps(groups) - engine_logps(groups)).abs()
    assert float(differences.mean()) <= LIMIT / 10
    pair.soften()
    assert pair.distance(pair.sample()) <= LIMIT


def test_a_random_model_agrees_with_the_trainer(pair: Pair, tmp_path: Path) -> None:
    """No token is certain here, so nothing cancels. The weights are in several files, as those of large models are."""
    model = tiny_model(pair.builder.tokenizer, seed=5)
    save(model, pair.builder.processor, tmp_path)
    model.save_pretrained(tmp_path, max_shard_size="1MB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    pair.engine.load(tmp_path)
    pair.policy.inner.load_state_dict(model.float().state_dict())
    groups = pair.sample()
    assert float(engine_logps(groups).mean()) < -2
    assert pair.distance(groups) <= LIMIT


def test_every_update_reaches_the_engine(pair: Pair) -> None:
    pair.soften()
    optimiser = torch.optim.AdamW(pair.policy.parameters(), lr=3e-4)
    before = engine_logps(pair.sample())
    for _ in range(3):
        train(pair, optimiser)
        pair.sync()
        groups = pair.sample()
        assert pair.distance(groups) <= LIMIT
        now = engine_logps(groups)
        assert before.shape != now.shape or not torch.equal(before, now), (
            "the update changed nothing: this test would see no fault"
        )
        before = now


def train(pair: Pair, optimiser: torch.optim.Optimizer) -> None:
    """One optimiser step that makes what was sampled less probable."""
    from visionr1.model.pack import TrainSequence, pack

    groups = pair.sample(n=1)
    prompts = [pair.tensors(*each) for each in zip(pair.prompts(), [g.prompt_token_ids for g in groups], strict=True)]
    sequences = [TrainSequence(place, group.completions[0].token_ids) for place, group in enumerate(groups)]
    optimiser.zero_grad()
    row = pack(prompts, sequences, shared=True)
    pair.policy(row, lambda logps_C, _: logps_C / len(row.targets_N)).loss.backward()
    optimiser.step()


@pytest.mark.parametrize("temperature", [0.5, 1.7])
def test_temperature_is_in_both(pair: Pair, temperature: float) -> None:
    pair.soften()
    pair.policy.inner.lm_head.temperature = temperature
    assert pair.distance(pair.sample(temperature=temperature)) <= LIMIT


def test_hf_samples_by_the_recipe_and_not_by_the_models_generation_config(
    pairs: dict[str, tuple[Pair, dict[str, torch.Tensor]]], tmp_path: Path
) -> None:
    """Qwen2.5-VL's own file asks for a repetition penalty and the likeliest token only."""
    import json
    import shutil

    from rollout_pair import make_pair

    from visionr1.preflight.base import base_dir
    from visionr1.recipe import load_recipe
    from visionr1.rollout.build import build_engine

    pair = make_pair("hf")
    shutil.copytree(pair.builder._directory, tmp_path / "model")
    settings = tmp_path / "model/generation_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"repetition_penalty": 1.3, "top_k": 1, "min_p": 0.5}))
    recipe = load_recipe("demo", ["rollout.engine=hf"])
    assert base_dir(recipe.model) == pair.builder._directory
    pair.engine = build_engine(tmp_path / "model", recipe, pair.builder, max_model_len=384, gpu_share=0.6)
    pair.soften()
    groups = pair.sample()
    assert len({tuple(c.token_ids) for group in groups for c in group.completions}) > len(groups)
    assert pair.distance(groups) <= LIMIT
