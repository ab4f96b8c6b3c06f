"""Presets have the numbers that the paper publishes; loading, merging and writing keep every value."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from visionr1.recipe import Recipe, json_schema, load_recipe, parse_recipe, phases, preset_names, preset_text, to_yaml, warnings
from visionr1.recipe.values import Part


def limits(recipe: Recipe) -> list[tuple[int, int, int]]:
    return [(stage.max_completion_tokens, stage.group_size, stage.steps) for stage in recipe.stages]


def test_vision_r1_is_the_paper() -> None:
    """arXiv 2503.06749v4 section 4.1, appendix A and the released 32-GPU training file."""
    recipe = load_recipe("vision-r1")
    assert limits(recipe) == [(4096, 16, 100), (8192, 8, 100)]
    assert (recipe.algorithm.clip_low, recipe.algorithm.clip_high, recipe.algorithm.kl_beta) == (0.2, 0.2, 0.01)
    assert (recipe.reward.function, recipe.model.system_prompt) == ("hfrrf", None)
    assert (recipe.model.base, recipe.model.dtype) == ("Qwen/Qwen2.5-VL-7B-Instruct", "bfloat16")
    sft = recipe.sft
    assert sft is not None and recipe.coldstart is None
    assert (sft.epochs, sft.global_batch_size, sft.learning_rate, sft.warmup_ratio) == (2, 32, 5e-6, 0.05)
    assert (sft.cutoff_tokens, sft.zero_stage, sft.freeze_vision_tower, sft.checkpoint_every) == (16384, 3, True, 1000)
    assert recipe.rollout.workers == 64
    assert (recipe.evaluation.temperature, recipe.evaluation.top_p, recipe.evaluation.max_completion_tokens) == (0.6, 0.95, 16000)


def test_variants_are_appendix_a() -> None:
    zero, long, ci = load_recipe("zero"), load_recipe("long"), load_recipe("ci")
    assert limits(zero) == [(4096, 16, 300)] and zero.sft is None and zero.reward.function == "zero"
    assert zero.model.system_prompt == (
        "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. The assistant first "
        "thinks about the reasoning process in the mind and then provides the user with the answer. The reasoning process and "
        "answer are enclosed within <think> </think> and <answer> </answer> tags, respectively, i.e., <think> reasoning process "
        "here </think><answer> answer here </answer>"
    )
    assert limits(long) == [(16384, 4, 300)] and long.sft == load_recipe("vision-r1").sft and long.reward.function == "hfrrf"
    assert ci.stages == () and ci.sft == load_recipe("vision-r1").sft


def test_demo_is_the_whole_chain_and_its_variants_match_their_originals() -> None:
    assert [phase.name for phase in phases(load_recipe("demo"))] == [
        "coldstart",
        "sft",
        "stage-1",
        "stage-2",
        "stage-3",
        "evaluate",
    ]
    for name in ("zero", "long", "ci"):
        small, full = load_recipe(f"demo-{name}"), load_recipe(name)
        assert len(small.stages) == len(full.stages)
        assert (small.sft is None) == (full.sft is None)
        assert (small.reward.function, small.model.system_prompt) == (full.reward.function, full.model.system_prompt)
    steps = [sum(stage.steps for stage in load_recipe(name).stages) for name in ("demo", "demo-zero", "demo-long")]
    assert len(set(steps)) == 1, "variants are compared after the same number of steps"


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_without_a_warning_and_round_trips(name: str) -> None:
    recipe = load_recipe(name)
    assert warnings(recipe) == []
    assert parse_recipe(to_yaml(recipe), "r.yaml") == recipe
    assert to_yaml(recipe) == to_yaml(parse_recipe(to_yaml(recipe), "r.yaml"))
    jsonschema.validate(yaml.safe_load(to_yaml(recipe)), json_schema())
    assert preset_text(name).startswith("#"), "a preset begins with what it is"


def test_a_file_changes_a_preset(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("preset: long\nname: mine\nsft: {epochs: 1}\nstages:\n  - {max_completion_tokens: 64, group_size: 2}\n")
    recipe = load_recipe(str(path), ["stages.0.steps=7", "optimiser.learning_rate=2e-6", "data.held_out=null"])
    assert recipe.name == "mine" and limits(recipe) == [(64, 2, 7)]
    assert recipe.sft is not None and (recipe.sft.epochs, recipe.sft.learning_rate) == (1, 5e-6)
    assert recipe.optimiser.learning_rate == 2e-6 and recipe.data.held_out is None


def test_the_schema_is_that_of_a_file_with_a_preset() -> None:
    jsonschema.validate({"preset": "vision-r1", "data": {"train": {"limit": 5}}}, json_schema())
    for wrong in ({"preset": "vision-r2"}, {"stages": [{"steps": 5}]}, {"sft": {"epoch": 1}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, json_schema())


def test_overrides_reach_everywhere() -> None:
    recipe = load_recipe("demo", ["coldstart=null", "sft=null", "stages.2={max_completion_tokens: 8, group_size: 2, steps: 1}"])
    assert recipe.sft is None and recipe.coldstart is None
    assert limits(recipe) == [(56, 16, 20), (112, 8, 20), (8, 2, 1)]
    assert load_recipe("vision-r1", ["coldstart.problems.path=a.jsonl"]).coldstart is not None, "a null section can be begun"


@pytest.mark.parametrize("text", ["010", "1:30", "yes", "2001-01-01", "1e5", "null", "0x10"])
def test_a_text_that_looks_like_a_number_is_quoted_for_readers_with_other_rules(text: str) -> None:
    recipe = load_recipe("demo", [f"model.system_prompt={json.dumps(text)}"])
    assert yaml.safe_load(to_yaml(recipe))["model"]["system_prompt"] == text
    assert parse_recipe(to_yaml(recipe), "r.yaml") == recipe


@given(
    name=st.from_regex(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?", fullmatch=True),
    base=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lr=st.floats(min_value=0, max_value=10, exclude_min=True, allow_nan=False, allow_infinity=False),
    steps=st.lists(st.integers(1, 10**7), min_size=1, max_size=4),
)
@example(name="0", base="a\x85b", lr=1.0, steps=[1])
def test_any_recipe_round_trips(name: str, base: str, lr: float, steps: list[int]) -> None:
    demo = load_recipe("demo")
    recipe = demo.model_copy(
        update={
            "name": name,
            "model": demo.model.model_copy(update={"base": base, "system_prompt": base}),
            "optimiser": demo.optimiser.model_copy(update={"learning_rate": lr}),
            "stages": tuple(demo.stages[0].model_copy(update={"steps": count}) for count in steps),
        }
    )
    assert parse_recipe(to_yaml(recipe), "r.yaml") == recipe


WARNINGS = [
    ("stages.1.group_size=16", "stages: max_completion_tokens x group_size is 65536, 131072; "),
    ("stages.1={max_completion_tokens: 2048, group_size: 32}", "stages: max_completion_tokens falls (4096, 2048); "),
    ("stages.0.carry=weights+optimizer", "stages.0.carry: weights+optimizer has no effect"),
    ("data.held_out.path=hf://AI4Math/MathVision@test", "data.held_out: Vision-R1-rl contains problems of MathVision; "),
    ("data.held_out.path=/data/we_math/test.parquet", "data.held_out: Vision-R1-rl contains problems of We-Math; "),
    ("data.held_out.path=hf://hiyouga/geometry3k@test", "data.held_out: Vision-R1-rl contains problems of Geometry3K; "),
    (
        "data.held_out.path=hf://Osilly/Vision-R1-rl@train",
        "data.held_out: hf://Osilly/Vision-R1-rl@train is also the training data",
    ),
    ("rollout.top_p=0.9", "rollout.top_p: 0.9 biases the ratio"),
    ("rollout.temperature=0.5", "rollout.temperature: 0.5 samples from a distribution that is not the one in training"),
    ("model.system_prompt=Think.", "model.system_prompt: set together with sft"),
]


@pytest.mark.parametrize(("assignment", "begins"), WARNINGS)
def test_warnings(assignment: str, begins: str) -> None:
    (line,) = warnings(load_recipe("vision-r1", [assignment]))
    assert line.startswith(begins)


def test_no_reference_without_kl() -> None:
    (line,) = warnings(load_recipe("vision-r1", ["algorithm.kl_beta=0", "stages.1.reference=previous_stage"]))
    assert line.startswith("stages: reference has no effect")


def test_benchmarks_without_held_out_problems_are_not_scored() -> None:
    (line,) = warnings(load_recipe("vision-r1", ["data.held_out=null", "evaluation.benchmarks=[{name: mathvista}]"]))
    assert line.startswith("evaluation.benchmarks: not scored, because data.held_out is null")


def test_splits_of_one_benchmark_are_no_contamination() -> None:
    sets = ["data.train.path=hf://hiyouga/geometry3k@train", "data.held_out.path=hf://hiyouga/geometry3k@test"]
    assert warnings(load_recipe("vision-r1", sets)) == []


def test_every_value_of_the_schema_is_explained() -> None:
    def undescribed(part: type[Part]) -> list[str]:
        # A section explains itself by its docstring.
        return [
            f"{part.__name__}.{name}"
            for name, field in part.model_fields.items()
            if not field.description and not (isinstance(field.annotation, type) and issubclass(field.annotation, Part))
        ]

    parts: list[type[Part]] = [Recipe, *Part.__subclasses__()]
    assert [name for part in parts for name in undescribed(part)] == []


def test_recipe_and_pipeline_never_import_torch() -> None:
    heavy = {"torch", "transformers", "vllm", "ray", "deepspeed", "sympy", "datasets"}
    code = f"import sys, visionr1.recipe, visionr1.pipeline.local, visionr1.cli; print({heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("device", "seen", "expected"),
    [("auto", True, True), ("auto", False, False), ("cuda", False, True), ("cpu", True, False)],
)
def test_workers_take_a_gpu_that_is_there_unless_the_recipe_decides(device: str, seen: bool, expected: bool) -> None:
    assert load_recipe("demo", [f"rollout.device={device}"]).rollout.on_gpu(seen) is expected
