"""Tries mutated rows, recipes and answers until the time is over: `python -m tests.fuzz.fuzz_inputs --seconds 60 --seed 1`.

Input number n of a target is made from (seed, target, n) alone, so that a finding can be tried again by the line that is
printed with it. The last line counts, and any finding makes the exit code 1.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "2")

import pyarrow as pa
import pyarrow.parquet as pq

from tests.hostile import sample_rows, turns, unusable_images, usable_images
from visionr1.data.check import CheckReport, check_problems, check_samples
from visionr1.data.readers import load_problems, load_samples
from visionr1.data.rows import Row
from visionr1.errors import BadInput
from visionr1.recipe import parse_recipe, phases, preset_names, preset_text, to_yaml, warnings
from visionr1.recipe.reward import Reward
from visionr1.recipe.schema import Model
from visionr1.recipe.source import Source
from visionr1.reward import Grader

Target = Callable[[Random], None]

SCRAPS = (
    "", " ", "\0", "\n", "\r\n", "\t", "\x1b[2J", "\u2028", "\u202e", "\ufeff", "\ud800", "\udfff", "\U0001f600",
    "e\u0301", "{", "}",
    "{x}", "[", "]", "'", '"', "\\", "%s", "<image>", "<image", "<|image_pad|>", "<|im_end|>", "<|im_start|>", "<think>",
    "</think>",
    "<answer>", "</answer>", "Final Answer:", "../", "/etc/passwd", "~", "NaN", "1e999", "-1", "9" * 5000,
    "0x" + "f" * 5000, "null",
    "true", ": ", "- ", "? ", "#", "&a ", "*a", "!!int ", "!!python/name:os.system", "<<: ", "---\n", "x" * 3000,
    "[" * 400, "$", "\\frac{",
    "\\sqrt", "^", "^{9^{9^9}}", "=", ",", "\\text{", "1/0", "\\infty", "\u221a", "\u00b0", "A.", "(B)", "%", "\\%", "\\boxed{",
)  # fmt: skip


def mutated(random: Random, text: str) -> str:
    """One to four edits: a scrap put in, a piece taken out, doubled or moved, a character changed."""
    for _ in range(random.randint(1, 4)):
        here, there = sorted(random.randint(0, len(text)) for _ in range(2))
        there = min(there, here + 200)
        edit = random.randrange(5)
        if edit == 0:
            text = text[:here] + random.choice(SCRAPS) + text[here:]
        elif edit == 1:
            text = text[:here] + text[there:]
        elif edit == 2:
            text = text[:there] + text[here:there] + text[there:]
        elif edit == 3:
            text = text[:here] + random.choice(SCRAPS) + text[there:]
        elif here < len(text):
            text = text[:here] + chr(random.choice((random.randrange(256), random.randrange(0x2FFF)))) + text[here + 1 :]
    return text


def mutated_bytes(random: Random, data: bytes) -> bytes:
    spoiled = bytearray(data)
    for _ in range(random.randint(1, 6)):
        if spoiled and random.random() < 0.9:
            spoiled[random.randrange(len(spoiled))] = random.choice((0, 0xFF, random.randrange(256)))
        else:
            del spoiled[random.randint(0, len(spoiled)) :]
    return bytes(spoiled)


def value(random: Random, depth: int = 0) -> Any:
    """Any JSON value."""
    if depth < 3 and random.random() < 0.3:
        values = [value(random, depth + 1) for _ in range(random.randrange(4))]
        return values if random.random() < 0.5 else {str(random.choice(SCRAPS)): one for one in values}
    plain = (None, True, False, 0, -1, 2**70, 0.5, float("nan"), float("inf"), "a.png", "<image>?", "1")
    return random.choice((*plain, random.choice(SCRAPS)))


def lines_of(error: BadInput) -> list[str]:
    """A message's lines, each of which a person can read."""
    lines = str(error).split("\n")
    for line in lines:
        assert line.strip() and line.isprintable() and len(line) < 4000, f"no readable line: {line[:300]!r}"
    return lines


class Rows:
    """Rows, images, chains of thought and whole files through reading, the check and the prompt builder."""

    def __init__(self, folder: Path) -> None:
        import datasets

        from visionr1.model.chat import PromptBuilder
        from visionr1.preflight.base import base_dir

        datasets.config.HF_DATASETS_CACHE = folder / "cache"
        self.folder = folder
        self.images = {**usable_images(), **unusable_images()}
        for name, data in self.images.items():
            (folder / name).write_bytes(data)
        (folder / "link.png").symlink_to("/etc/hostname")
        self.samples = [row for row, _ in sample_rows() if isinstance(row, dict) and len(str(row)) < 10_000]
        self.model = Model(base="demo", dtype="float32", min_pixels=784, max_pixels=50176)
        self.builder = PromptBuilder(base_dir(self.model), self.model)
        tokens = {*self.builder.tokenizer.all_special_ids, *self.builder.banned_token_ids}
        self.special = lambda ids: sum(token in tokens for token in ids)
        self.frame = self.special(self.builder.build(Row("", "", (), "")).token_ids)

    def __call__(self, random: Random) -> None:
        suffix = random.choices(("jsonl", "json", "parquet"), (12, 3, 1))[0]
        sft = random.random() < 0.3
        row = self._row(random, sft)
        data = self._file(random, row, suffix)
        if random.random() < 0.2:
            data = mutated_bytes(random, data)
        file = self.folder / f"rows-{random.getrandbits(60)}.{suffix}"
        file.write_bytes(data)
        try:
            self._look(Source(path=str(file), image_root=str(self.folder)), sft)
        except BadInput as error:
            assert len(lines_of(error)) == 1
        finally:
            file.unlink()
            if suffix == "parquet":
                shutil.rmtree(self.folder / "cache", ignore_errors=True)

    def _row(self, random: Random, sft: bool) -> dict[str, Any]:
        image: Any = random.choice((*self.images, "link.png", "../x.png", "gone.png"))
        if random.random() < 0.3:
            image = self.folder / "mutated"
            image.write_bytes(mutated_bytes(random, random.choice(list(self.images.values()))))
            image = "mutated"
        row: dict[str, Any] = {"image": image, "problem": "<image>How many?", "answer": "1"}
        if sft:
            row = dict(random.choice(self.samples)) if random.random() < 0.5 else {"image": image, "conversations": turns()}
        for name in list(row):
            if random.random() < 0.2:
                text = row[name] if isinstance(row[name], str) else str(row[name])
                row[name] = mutated(random, text) if random.random() < 0.7 else value(random)
        if sft and isinstance(row.get("conversations"), list):
            row["conversations"] = [
                {name: mutated(random, str(text)) if random.random() < 0.2 else text for name, text in turn.items()}
                if isinstance(turn, dict)
                else turn
                for turn in row["conversations"]
            ]
        return row

    def _file(self, random: Random, row: dict[str, Any], suffix: str) -> bytes:
        if suffix == "jsonl":
            text = json.dumps(row)
            return (mutated(random, text) if random.random() < 0.2 else text).encode("utf-8", "surrogatepass")
        if suffix == "json":
            return json.dumps([row, row]).encode()
        buffer = io.BytesIO()
        try:
            pq.write_table(pa.Table.from_pylist([row]), buffer)
        except (pa.ArrowException, UnicodeEncodeError, OverflowError, TypeError):
            pq.write_table(pa.table({"problem": ["<image>?"], "image": ["plain.png"], "answer": ["1"]}), buffer)
        return buffer.getvalue()

    def _look(self, source: Source, sft: bool) -> None:
        limits: dict[str, Any] = {"min_pixels": self.model.min_pixels, "max_pixels": self.model.max_pixels}
        if sft:
            samples = load_samples(source)
            found = check_samples(samples, **limits, cutoff_tokens=4096, count_tokens=self.builder.count_sample_tokens)
            for index in self._sound(found):
                sample = samples[index]
                self._build(Row(sample.id, sample.problem, sample.images, ""))
                assert self.special(self.builder.response_ids(sample.response)) == 1, "a special token in a response"
            return
        rows = load_problems(source)
        found = check_problems(rows, **limits, max_prompt_tokens=4096, count_prompt_tokens=self.builder.count_tokens)
        for index in self._sound(found):
            self._build(rows[index])

    def _sound(self, found: CheckReport) -> list[int]:
        for line in found.lines():
            assert line.isprintable() and len(line) < 4000, f"no readable line: {line[:300]!r}"
        json.dumps(found.to_json(), ensure_ascii=False).encode()
        return found.good

    def _build(self, row: Row) -> None:
        prompt = self.builder.build(row)
        special = self.special(prompt.token_ids)
        assert special == self.frame + 3 * len(row.images), "a special token in a problem"
        if prompt.images:
            self.builder.image_inputs(prompt.images)


def recipes(random: Random) -> None:
    """Recipe files and `--set`: a Recipe, or lines that can be read."""
    text = preset_text(random.choice(preset_names()))
    if random.random() < 0.5:
        text = (
            f"preset: {random.choice(preset_names())}\n" + text
            if random.random() < 0.2
            else "preset: demo\nseed: 3\nsft: {epochs: 2}\n"
        )
    changes: list[str] = []
    if random.random() < 0.7:
        text = mutated(random, text)
    else:
        keys = (
            "seed",
            "name",
            "sft.epochs",
            "stages.0.steps",
            "stages",
            "model.base",
            "data.train.path",
            "optimiser.betas",
            "reward",
        )
        changes = [f"{random.choice(keys)}={json.dumps(value(random))}"]
        changes = [mutated(random, one) if random.random() < 0.5 else one for one in changes]
    try:
        recipe = parse_recipe(text, "r.yaml", changes)
    except BadInput as error:
        # A change comes from the command line and is repeated as it was typed.
        if all(change.isprintable() and len(change) < 1000 for change in changes):
            lines_of(error)
        return
    assert parse_recipe(to_yaml(recipe), "again") == recipe, "a recipe that is not read back as it was written"
    phases(recipe)
    warnings(recipe)


SHAPE = re.compile(r"\s*<think>(.*\S.*)</think>\s*<answer>(.*\S.*)</answer>\s*", re.DOTALL)
ANSWERS = (
    "8",
    "3.50",
    "\\frac{1}{2}",
    "72^\\circ",
    "B",
    "B. 3\\pi",
    "(1, 2)",
    "x=3",
    "12 cm",
    "\\sqrt{2}+1",
    "A:72",
    "50\\%",
    "1,000",
    "\\{1,2\\}",
)


class Answers:
    """Responses through reading and grading by a real pool: no exception, and nothing paid where the format does not hold."""

    def __init__(self) -> None:
        self.grader = Grader(Reward(processes=2, seconds_per_answer=1))

    def __call__(self, random: Random) -> None:
        truths = [random.choice(ANSWERS) for _ in range(16)]
        truths = [mutated(random, truth) if random.random() < 0.1 else truth for truth in truths]
        given = [truth if random.random() < 0.5 else mutated(random, random.choice(ANSWERS)) for truth in truths]
        responses = [f"<think> t </think><answer> Final Answer:{one} </answer>" for one in given]
        responses = [mutated(random, one) if random.random() < 0.6 else one for one in responses]
        for response, grade in zip(responses, self.grader.grade(responses, truths), strict=True):
            once = all(response.count(tag) == 1 for tag in ("<think>", "</think>", "<answer>", "</answer>"))
            holds = once and SHAPE.fullmatch(response) is not None
            assert grade.overall in (0.0, 1.0) and grade.format in (0.0, 1.0) and grade.accuracy in (0.0, 1.0), repr(response)
            assert grade.overall == grade.format * grade.accuracy, repr(response)
            assert not grade.format or holds, f"the format holds without its shape: {response!r}"


def run(name: str, target: Target, seed: int, seconds: float, only: int | None) -> tuple[int, int]:
    """Inputs that passed and that failed within the time."""
    begun = reported = time.monotonic()
    passed = failed = 0
    number = only or 0
    while only is not None or time.monotonic() - begun < seconds:
        try:
            target(Random(f"{seed}/{name}/{number}"))
            passed += 1
        except Exception:
            failed += 1
            traceback.print_exc()
            print(f"try it again: python -m tests.fuzz.fuzz_inputs --target {name} --seed {seed} --only {number}", flush=True)
        number += 1
        if only is not None or failed >= 10:
            break
        if time.monotonic() - reported > 10:
            reported = time.monotonic()
            print(f"{name}: {number} inputs in {reported - begun:.0f} of {seconds:.0f} s", file=sys.stderr, flush=True)
    print(f"{name}: {passed} passed, {failed} failed in {time.monotonic() - begun:.0f} s", flush=True)
    return passed, failed


def main() -> None:
    parser = argparse.ArgumentParser(description="Try mutated rows, recipes and answers.")
    parser.add_argument("--seconds", type=float, default=60, help="For all targets together.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", choices=("rows", "recipes", "answers"), help="Only this one.")
    parser.add_argument("--only", type=int, help="Only this input of the target.")
    arguments = parser.parse_args()
    names = [arguments.target] if arguments.target else ["rows", "recipes", "answers"]
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="visionr1-fuzz-") as folder:
        make: dict[str, Callable[[], Target]] = {
            "rows": lambda: Rows(Path(folder)),
            "recipes": lambda: recipes,
            "answers": Answers,
        }
        for name in names:
            target = make[name]()
            good, bad = run(name, target, arguments.seed, arguments.seconds / len(names), arguments.only)
            passed, failed = passed + good, failed + bad
            if isinstance(target, Answers):
                target.grader.close()
    print(f"{passed} passed, {failed} failed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
