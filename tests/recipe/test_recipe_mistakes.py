"""Every mistake in a recipe is one line that a newcomer can act on."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from visionr1.errors import BadInput
from visionr1.recipe import load_recipe, parse_recipe, preset_names
from visionr1.recipe.messages import _WORDING

BASE = "preset: demo\n"
PRESETS = "presets: " + ", ".join(preset_names())


def lines_of(text: str, overrides: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(BadInput) as caught:
        parse_recipe(text, "r.yaml", overrides)
    return str(caught.value).split("\n")


VALUES = [
    ("algorithm: {prompts_per_step: 0}", "algorithm.prompts_per_step: 0 is too small; it must be at least 1"),
    ("algorithm: {kl_beta: -1}", "algorithm.kl_beta: -1 is too small; it must be at least 0.0"),
    ("algorithm: {kl_estimator: k4}", "algorithm.kl_estimator: \"k4\" is not allowed; choose 'k1', 'k2' or 'k3'"),
    ("algorithm: {normalise_by_std: 1}", "algorithm.normalise_by_std: 1 is not true or false"),
    ("algorithm: {normalize_by_std: true}", "algorithm.normalize_by_std: unknown key; did you mean normalise_by_std?"),
    (
        "algorithm: {learning_rate: 1e-6}",
        "algorithm.learning_rate: unknown key; did you mean sft.learning_rate or optimiser.learning_rate?",
    ),
    ("group_size: 8", "group_size: unknown key; did you mean stages.0.group_size?"),
    ("sft: {learning_rate: fast}", 'sft.learning_rate: "fast" is not a number'),
    ("sft: {learning_rate: 0}", "sft.learning_rate: 0 is too small; it must be larger than 0.0"),
    ("sft: {learning_rate: .inf}", "sft.learning_rate: Infinity is not a finite number"),
    ("sft: {learning_rate: .nan}", "sft.learning_rate: NaN is not a finite number"),
    ("sft: {warmup_ratio: 5}", "sft.warmup_ratio: 5 is too large; it must be at most 1.0"),
    ("sft: {epochs: null}", "sft.epochs: null is not a number"),
    ("sft: {max_steps: 2.5}", "sft.max_steps: 2.5 is not a whole number"),
    ("sft: {processes: '2'}", 'sft.processes: "2" is not a whole number'),
    ("sft: {processes: yes}", 'sft.processes: "yes" is not a whole number'),
    ("seed: 010", 'seed: "010" is not a whole number'),
    ("seed: 1_000", 'seed: "1_000" is not a whole number'),
    ("seed: 0x10", 'seed: "0x10" is not a whole number'),
    ("seed: 0b1", 'seed: "0b1" is not a whole number'),
    ("stages: [{max_completion_tokens: 48, group_size: 4, steps: 1:30}]", 'stages.0.steps: "1:30" is not a whole number'),
    ("sft: {epochs: 1:30.5}", 'sft.epochs: "1:30.5" is not a number'),
    ("sft: {epochs: 02.5}", 'sft.epochs: "02.5" is not a number'),
    ("metrics: {enabled: on}", 'metrics.enabled: "on" is not true or false'),
    (
        "evaluation: {judge: {model: m, workers: {count: 2}}}",
        "evaluation.judge: workers are for teachers of the cold start; serve the model, and give base_url or endpoints",
    ),
    (
        "evaluation: {judge: {model: m, base_url: 'demo://teacher'}}",
        "evaluation.judge: demo://teacher writes chains of thought only: give the address of an OpenAI-compatible server",
    ),
    (
        "coldstart: {problems: {path: a}, reasoner: {base_url: 'localhost:8001/v1', model: m}}",
        "coldstart.reasoner.base_url: localhost:8001/v1 is no address: begin it with http:// or https://, such as "
        "http://localhost:8000/v1",
    ),
    (
        "coldstart: {problems: {path: a}, reasoner: {base_url: 'https://api.deepseek.com/v1/chat/completions', model: m}}",
        "coldstart.reasoner.base_url: https://api.deepseek.com/v1/chat/completions is the address of one kind of request: end it "
        "before /chat/completions",
    ),
    (
        "algorithm: {updates_per_batch: 9, prompts_per_step: 8}\nrollout: {workers: 4}\n"
        "stages: [{max_completion_tokens: 8, group_size: 4}]",
        "algorithm.updates_per_batch (9) is more than the 8 completions of a worker in a step of stages.0",
    ),
    ("sft: {zero_stage: 4}", "sft.zero_stage: 4 is not allowed; choose 'auto', 1, 2 or 3"),
    (
        "sft: {data: {limit: 3}}",
        "sft.data.path: missing; meaning: A .parquet, .jsonl or .json file, a directory of them, s3://bucket/key, "
        "hf://owner/name[@split], or demo://digits/train|held-out.",
    ),
    ("sft: true", "sft: true is not a group of keys; it has data, epochs, max_steps, global_batch_size, "),
    ("stages: 3", "stages: 3 is not a list"),
    ("stages: {a: 1}", 'stages: {"a": 1} is not a list'),
    ("stages: [4096]", "stages.0: 4096 is not a group of keys; it has max_completion_tokens, group_size, steps, "),
    (
        "stages: [{max_completion_tokens: 48}]",
        "stages.0.group_size: missing; meaning: Completions per prompt, G_s.",
    ),
    ("stages: [{max_completion_tokens: 48, group_size: 1}]", "stages.0.group_size: 1 is too small; it must be at least 2"),
    (
        "stages: [{max_completion_tokens: 48, group_size: 4, carry: all}]",
        "stages.0.carry: \"all\" is not allowed; choose 'weights' or 'weights+optimizer'",
    ),
    (
        "stages: [{max_completion_tokens: 48, group_size: 4, tensor_parallel: 3}]",
        "stages.0.tensor_parallel (3) does not divide rollout.workers (2)",
    ),
    (
        "algorithm: {prompts_per_step: 15}",
        "algorithm.prompts_per_step (15) is not a multiple of rollout.workers (2)",
    ),
    ("rollout: {temperature: 2.5}", "rollout: temperature (2.5) is more than 2, the most that vLLM allows"),
    ("optimiser: {betas: [0.9]}", "optimiser.betas.1: missing; the list is too short"),
    (f"model: {{base: {'x' * 20_001}}}", f'model.base: "{"x" * 56}... is too long; it may have 20000 characters'),
    ("optimiser: {betas: [0.9, 0.99, 0.999]}", "optimiser.betas: [0.9, 0.99, 0.999] has 3 entries; it must have at most 2"),
    ("optimizer: {learning_rate: 1}", "optimizer: unknown key; did you mean optimiser?"),
    ("rollout: {gpu_memory_utilization: 1}", "rollout.gpu_memory_utilization: 1 is too large; it must be less than 1.0"),
    ("rollout: {engine: sglang}", "rollout.engine: \"sglang\" is not allowed; choose 'vllm' or 'hf'"),
    ("metrics: {port: 70000}", "metrics.port: 70000 is too large; it must be at most 65535"),
    ("metrics: {host: 0}", "metrics.host: 0 is not text"),
    ("metrics: {qqqq: 0}", "metrics.qqqq: unknown key; allowed here: enabled, host, port, save_rollouts"),
    (
        "name: My Run",
        "name: \"My Run\" is not allowed; use up to 40 lower-case letters, digits and '-', no '-' at either end",
    ),
    ("seed: 4294967296", "seed: 4294967296 is too large; it must be at most 2147483647"),
    ("model: {min_pixels: 50177}", "model: min_pixels (50177) is larger than max_pixels (50176)"),
    ("name: " + "[" * 250 + "]" * 250, "nested too deeply for a recipe"),
    (
        'name: "x\u202ey\\n"',
        "name: \"x\\u202ey\\n\" is not allowed; use up to 40 lower-case letters, digits and '-', no '-' at either end",
    ),
    ("coldstart: null", "sft.data is null and there is no coldstart section that makes data: set one of the two"),
    ("sft: null\nstages: []", "nothing to do: add an sft section, stages, or both"),
]


@pytest.mark.parametrize(("text", "line"), VALUES, ids=[text for text, _ in VALUES])
def test_wrong_value(text: str, line: str) -> None:
    (found,) = lines_of(BASE + text)
    # The lists of keys of a whole section are long; their beginning says enough here.
    assert found == f"r.yaml: {line}" or (line.endswith(", ") and found.startswith(f"r.yaml: {line}"))


TEXTS = [
    ("", "r.yaml: not a recipe: write keys and values, such as `preset: vision-r1`"),
    ("- a\n- b", "r.yaml: not a recipe: write keys and values, such as `preset: vision-r1`"),
    ("name: [", "r.yaml, line 1, column 8: not valid YAML: expected the node content, but found '<stream end>'"),
    ("a: 1\n  b: 2", "r.yaml, line 2, column 4: not valid YAML: mapping values are not allowed here"),
    ("a: 1\n---\nb: 2", "r.yaml, line 2, column 1: not valid YAML: but found another document"),
    ("a: &x 1\nb: *x", "r.yaml, line 2, column 6: not valid YAML: a recipe has no aliases (*name)"),
    (
        "a: !!python/object/apply:os.system [ls]",
        "r.yaml, line 1, column 4: not valid YAML: a recipe has no tags (!name): remove 'tag:yaml.org,2002:",
    ),
    ("a: !!bool maybe", "r.yaml, line 1, column 4: not valid YAML: a recipe has no tags (!name): remove 'tag:yaml.org,2002:"),
    ("a: !!timestamp soon", "r.yaml, line 1, column 4: not valid YAML: a recipe has no tags (!name): remove 'tag:yaml.org,2002:"),
    (
        "? !!binary YQ==\n: 1",
        "r.yaml, line 1, column 3: not valid YAML: a recipe has no tags (!name): remove 'tag:yaml.org,2002:",
    ),
    (
        "preset: !!binary YQ==",
        "r.yaml, line 1, column 9: not valid YAML: a recipe has no tags (!name): remove 'tag:yaml.org,2002:",
    ),
    ("a: " + "9" * 9000, "r.yaml: not valid YAML: Exceeds the limit"),
    ("a: \0", "r.yaml: not valid YAML: unacceptable character #x0000"),
    ('a: "\\0"', "r.yaml, line 1, column 4: not valid YAML: a text has a NUL character or a lone surrogate in it: remove it"),
    (
        'a: ["\\ud800"]',
        "r.yaml, line 1, column 5: not valid YAML: a text has a NUL character or a lone surrogate in it: remove it",
    ),
    ('"a\\nb": 1', "r.yaml: line 1: a key must be a single word"),
    ('"\\x1b[31mb": 1', "r.yaml: line 1: a key must be a single word"),
    ("x" * 61 + ": 1", "r.yaml: line 1: a key must be a single word"),
    ("sft:\n  epochs: 1\n  epochs: 2", "r.yaml: sft.epochs: given twice, on lines 2 and 3; keep one"),
    ("? [a, b]\n: 1", "r.yaml: line 1: a key must be a single word"),
    ("a: " + "[" * 3000, "r.yaml: nested too deeply for a recipe"),
    ("a: " + "9" * 5000, "r.yaml: not valid YAML: Exceeds the limit"),
    ("preset: dmeo", f'r.yaml: preset: "dmeo" is not a preset; did you mean the preset demo? {PRESETS}'),
    ("preset: " + "x" * 3000, f'r.yaml: preset: "{"x" * 56}... is not a preset; {PRESETS}'),
    ("preset: 3", f"r.yaml: preset: 3 is not a preset; {PRESETS}"),
    ("preset: [demo]", f'r.yaml: preset: ["demo"] is not a preset; did you mean the preset demo? {PRESETS}'),
]


@pytest.mark.parametrize(("text", "line"), TEXTS, ids=[text[:30] for text, _ in TEXTS])
def test_wrong_text(text: str, line: str) -> None:
    (found,) = lines_of(text)
    assert found.startswith(line)


def test_how_deep_a_recipe_may_be_does_not_depend_on_python_s_limit() -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(16_384)  # as mypy and others do
    try:
        found = [lines_of("a: " + "[" * depth) for depth in (110, 3000)]
    finally:
        sys.setrecursionlimit(limit)
    assert found == [["r.yaml: nested too deeply for a recipe"]] * 2


OVERRIDES = [
    ("stages.0.steps=0", "--set stages.0.steps=0: stages.0.steps: 0 is too small; it must be at least 1"),
    ("stages.3.steps=5", "--set stages.3.steps=5: stages.3 does not exist; stages has 0 to 2"),
    ("stages.-1.steps=5", "--set stages.-1.steps=5: stages.-1 does not exist; stages has 0 to 2"),
    ("stages.first.steps=5", "--set stages.first.steps=5: stages.first does not exist; stages has 0 to 2"),
    ("name.first=5", "--set name.first=5: name is a single value and has nothing below it"),
    (
        "coldstart.problems.x.0=5",
        "--set coldstart.problems.x.0=5: coldstart.problems.x is empty; give the whole list, such as coldstart.problems.x=[...]",
    ),
    ("seed", "--set seed: write it as path.to.key=value, such as stages.0.steps=5"),
    ("=1", "--set =1: write it as path.to.key=value, such as stages.0.steps=5"),
    ("sft..epochs=1", "--set sft..epochs=1: write it as path.to.key=value, such as stages.0.steps=5"),
    ("seed=[", "--set seed=[, line 1, column 2: not valid YAML: expected the node content, but found '<stream end>'"),
    ("sft.epoch=1", "--set sft.epoch=1: sft.epoch: unknown key; did you mean epochs?"),
    ("sft={epochs: 1, epochs: 2}", "--set sft={epochs: 1, epochs: 2}: epochs: given twice, on lines 1 and 1; keep one"),
]


@pytest.mark.parametrize(("assignment", "line"), OVERRIDES, ids=[assignment for assignment, _ in OVERRIDES])
def test_wrong_override(assignment: str, line: str) -> None:
    assert lines_of(BASE, (assignment,)) == [line]


def test_every_mistake_has_its_own_line_and_says_where_it_comes_from() -> None:
    text = BASE + "seed: -1\nalgorithm: {clip_low: 0}\nsft: {epochs: 0, cutof_tokens: 5}"
    assert lines_of(text, ("seed=-2",)) == [
        "--set seed=-2: seed: -2 is too small; it must be at least 0",
        "r.yaml: sft.epochs: 0 is too small; it must be larger than 0.0",
        "r.yaml: sft.cutof_tokens: unknown key; did you mean cutoff_tokens?",
        "r.yaml: algorithm.clip_low: 0 is too small; it must be larger than 0.0",
    ]


def test_two_repeated_keys_are_two_lines() -> None:
    assert lines_of("seed: 1\nseed: 2\nstages: [{steps: 1, steps: 2}]") == [
        "r.yaml: seed: given twice, on lines 1 and 2; keep one",
        "r.yaml: stages.0.steps: given twice, on lines 3 and 3; keep one",
    ]


def test_no_message_has_jargon() -> None:
    found = [line for text, _ in VALUES for line in lines_of(BASE + text)]
    assert not [line for line in found if re.search(r"pydantic|validation|type=|https?://errors|Input should", line)]


def test_each_wording_is_reached() -> None:
    """A wording nobody can see would be untested text."""
    reported = [line for text, _ in VALUES for line in lines_of(BASE + text)]
    for kind, wording in _WORDING.items():
        constant = max(re.split(r"\{\w+\}", wording), key=len)
        assert not constant or any(constant in line for line in reported), kind


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    cases = {
        str(tmp_path / "demo.yaml"): "no such file; did you mean the preset demo? " + PRESETS,
        str(tmp_path): "cannot be read: Is a directory",
        str(tmp_path / "b.yaml"): "not a text file (UTF-8)",
    }
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    for path, reported in cases.items():
        with pytest.raises(BadInput) as caught:
            load_recipe(path)
        assert str(caught.value) == f"{path}: {reported}"
    with pytest.raises(BadInput, match=r"^vision-r2: no such preset; did you mean the preset vision-r1\? .*\./vision-r2\)$"):
        load_recipe("vision-r2")
