"""Lengths that the model, or the KV cache, does not take."""

from __future__ import annotations

from visionr1.capacity.model import DEMO_BASE, read_model_sizes
from visionr1.preflight.base import read_config
from visionr1.preflight.lengths import cache_faults, context_tokens, cutoff_note, length_faults, sft_cutoff
from visionr1.recipe import load_recipe, phases
from visionr1.recipe.schema import SFT

CONTEXT = 2048


def test_the_context_is_in_both_forms_of_a_config() -> None:
    assert context_tokens(read_config(DEMO_BASE)) == CONTEXT
    assert context_tokens({"max_position_embeddings": 128_000}) == 128_000
    assert context_tokens({}) is None


def test_every_stage_and_the_evaluation_must_fit() -> None:
    settings = ["data.max_prompt_tokens=1000", "stages.1.max_completion_tokens=1049", "evaluation.max_completion_tokens=1049"]
    recipe = load_recipe("demo", [*settings, "stages.2.max_completion_tokens=1048"])
    end = "2049 tokens, and the model takes 2048: lower them"
    assert length_faults(recipe, phases(recipe), CONTEXT) == [
        f"data.max_prompt_tokens + stages.1.max_completion_tokens: stage 2 may need {end}",
        f"data.max_prompt_tokens + evaluation.max_completion_tokens: the evaluation may need {end}",
    ]
    assert length_faults(recipe, phases(recipe)[:3], CONTEXT) == [], "only phases that are still to come"
    assert length_faults(recipe, phases(recipe), None) == []


def test_sft_leaves_out_what_the_model_cannot_take() -> None:
    recipe = load_recipe("demo", ["sft.cutoff_tokens=4096"])
    assert recipe.sft and sft_cutoff(recipe.sft, CONTEXT) == CONTEXT
    note = cutoff_note(recipe, phases(recipe), CONTEXT)
    assert note == "sft.cutoff_tokens: the model takes 2048 tokens, so samples that are longer are left out"
    demo = load_recipe("demo")
    assert cutoff_note(demo, phases(demo), CONTEXT) is None
    assert sft_cutoff(SFT(cutoff_tokens=100), None) == 100


def test_the_cache_holds_the_longest_sequence() -> None:
    sizes = read_model_sizes(DEMO_BASE)
    gib_of_448_tokens = 2 * sizes.layers * sizes.keys * 4 * 512 / 2**30  # four blocks of 128
    recipe = load_recipe("demo", [f"rollout.cpu_kv_cache_gib={gib_of_448_tokens}"])
    assert cache_faults(recipe, phases(recipe), sizes) == []
    recipe = load_recipe("demo", [f"rollout.cpu_kv_cache_gib={gib_of_448_tokens * 0.99}"])
    [line] = cache_faults(recipe, phases(recipe), sizes)
    assert "hold 506 tokens, and a sequence of stage 3 may have 480" in line
    recipe = load_recipe("demo", [f"rollout.cpu_kv_cache_gib={gib_of_448_tokens * 0.99}", "rollout.engine=hf"])
    assert cache_faults(recipe, phases(recipe), sizes) == []
