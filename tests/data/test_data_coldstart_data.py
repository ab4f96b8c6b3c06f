"""What the cold start writes, who can read it, and how settings change what is asked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import pytest
from fake_teacher import Answer, FakeTeacher, helpful, step_of, text_of, write_problems
from rich.console import Console
from test_data_coldstart_run import recipe, run, same

from visionr1.data.coldstart import output
from visionr1.data.coldstart.load import load_coldstart
from visionr1.data.coldstart.reply import Reply
from visionr1.data.coldstart.run import run_coldstart
from visionr1.data.coldstart.summary import coldstart_table
from visionr1.data.coldstart.work import WorkLog
from visionr1.data.readers import load_samples
from visionr1.errors import BadInput
from visionr1.recipe.source import Source
from visionr1.storage import open_store


def asked(teacher: FakeTeacher, step: str) -> list[dict[str, Any]]:
    return [request for request in teacher.requests if step_of(request) == step]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_both_layouts_parquet_and_the_card(
    teacher: FakeTeacher, problems: Path, tmp_path: Path, png: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "SHARD_BYTES", 3 * (len(png) + 100))
    report = run(recipe(problems, teacher.url, give_answer_to_reasoner=False), tmp_path / "run")
    folder = tmp_path / "run/coldstart"
    shards = sorted(path.name for path in (folder / "parquet").iterdir())
    assert shards == ["train-00000.parquet", "train-00001.parquet"]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    rows = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert [row["answer"] for row in rows] == [str(n + 5) for n in range(6)]
    assert rows[0]["images"][0].size == (56, 28) and rows[0]["solved"] == 1.0
    assert rows[3]["response"].startswith("<think> The image shows 3 and 5.")
    for name in ("data.jsonl", "data-mulberry.jsonl"):
        samples = load_samples(Source(path=str(folder / name)))
        assert [sample.images for sample in samples] == [(png,)] * 6
        assert samples[2].response.endswith("<answer> Final Answer:7 </answer>")
        plain = datasets.load_dataset("json", data_files=str(folder / name), split="train", cache_dir=str(tmp_path / "cache"))
        assert plain.num_rows == 6
    assert lines(folder / "difficulty.jsonl") == [{"id": f"rows.jsonl#{n}", "solved": 1.0} for n in range(6)]
    text = (folder / "README.md").read_text()
    for part in (
        "6 samples from 6 problems",
        "| rows.jsonl | 6 |",
        "| Wait | 6 | 6 |",
        "thinker, temperature 0.6",
        "prompt reasoning",
    ):
        assert part in text
    console = Console(width=120, record=True)
    console.print(coldstart_table(report))
    assert "6 of 6 problems gave a sample" in console.export_text()


def test_llama_factory_s_description_fits_the_files(teacher: FakeTeacher, problems: Path, tmp_path: Path) -> None:
    run(recipe(problems, teacher.url), tmp_path / "run")
    folder = tmp_path / "run/coldstart"
    described = json.loads((folder / "dataset_info.json").read_text())
    assert sorted(described) == ["visionr1_coldstart_llava_cot", "visionr1_coldstart_mulberry"]
    for one in described.values():
        assert one["formatting"] == "sharegpt"
        for row in lines(folder / one["file_name"]):
            images, tags = row[one["columns"]["images"]], one["tags"]
            assert all((folder / image).is_file() for image in ([images] if isinstance(images, str) else images))
            turns = row[one["columns"]["messages"]]
            assert [turn[tags["role_tag"]] for turn in turns] == [tags["user_tag"], tags["assistant_tag"]]
            assert turns[0][tags["content_tag"]].count("<image>") == 1


def test_images_have_one_type_where_some_rows_have_several(teacher: FakeTeacher, problems: Path, tmp_path: Path) -> None:
    rows = lines(problems)
    rows[1] |= {"image": ["a.png", "a.png"], "problem": "<image><image>What is 1+5?"}
    problems.write_text("\n".join(map(json.dumps, rows)))
    run(recipe(problems, teacher.url), tmp_path / "run")
    assert [len(row["image"]) for row in lines(tmp_path / "run/coldstart/data.jsonl")] == [1, 2, 1, 1, 1, 1]


def test_several_samples_and_what_was_dropped(teacher: FakeTeacher, problems: Path, tmp_path: Path) -> None:
    seen: Counter[str] = Counter()

    def sometimes_wrong(request: dict[str, Any]) -> Answer:
        if step_of(request) != "reasoning":
            return helpful(request)
        seen[text_of(request)] += 1
        return helpful(request) if seen[text_of(request)] == 2 else (200, "<think> Hm. </think> Final Answer: 0")

    teacher.answer = sometimes_wrong
    report = run(recipe(problems, teacher.url, samples=4, keep_wrong=True), tmp_path / "run")
    assert (report.kept, report.asked) == (6, 36)
    rejected = lines(tmp_path / "run/coldstart/rejected.jsonl")
    assert len(rejected) == 18 and {one["rule"] for one in rejected} == {"wrong answer"}
    assert rejected[0]["reply"] == "<think> Hm. </think> Final Answer: 0" and rejected[0]["answer"] == "5"
    assert {one["solved"] for one in lines(tmp_path / "run/coldstart/difficulty.jsonl")} == {0.25}
    again = len(teacher.requests)
    (tmp_path / "run/coldstart/manifest.json").unlink()
    assert run(recipe(problems, teacher.url, samples=5), tmp_path / "run").reused == 36 and len(teacher.requests) == again + 6


def test_problems_without_an_answer_are_voted_on(teacher: FakeTeacher, problems: Path, tmp_path: Path) -> None:
    problems.write_text("\n".join(json.dumps(row | {"answer": ""}) for row in lines(problems)))
    report = run(recipe(problems, teacher.url, samples=3), tmp_path / "run")
    assert (report.kept, report.asked) == (6, 24)
    assert "<answer> Final Answer:8 </answer>" in (tmp_path / "run/coldstart/data.jsonl").read_text()
    assert not any("correct answer" in text_of(request).lower() for request in teacher.requests)


def pictures(request: dict[str, Any]) -> int:
    content = request["messages"][0]["content"]
    return 0 if isinstance(content, str) else len(content) - 1


def test_controls(teacher: FakeTeacher, problems: Path, tmp_path: Path) -> None:
    run(recipe(problems, teacher.url), tmp_path / "none")
    assert {pictures(request) for request in asked(teacher, "pseudo_cot")} == {1}
    teacher.requests.clear()
    teacher.answer = lambda request: helpful(request) if "Following the above" in text_of(request) else (200, "Two numbers.")
    run(recipe(problems, teacher.url, control="text"), tmp_path / "text")
    assert len(teacher.requests) == 18 and {pictures(request) for request in teacher.requests} == {0}
    teacher.requests.clear()
    teacher.answer = helpful
    report_error = r"none of the 6 problems became a sample \(6 x no regions\)"
    with pytest.raises(BadInput, match=report_error):
        run(recipe(problems, teacher.url, control="anchored"), tmp_path / "anchored")
    assert all("say where it is in the image" in text_of(request) for request in asked(teacher, "description"))
    teacher.answer = lambda request: (
        (200, "On the left a 3, above the line a 5.") if step_of(request) == "description" else helpful(request)
    )
    assert run(recipe(problems, teacher.url, control="anchored"), tmp_path / "named").kept == 6


def test_without_a_pseudo_cot(teacher: FakeTeacher, problems: Path, tmp_path: Path) -> None:
    report = run(recipe(problems, teacher.url, pseudo_cot=False), tmp_path / "run")
    assert (report.kept, report.asked) == (6, 12)
    assert not any("thinking process" in text_of(request) for request in teacher.requests)


def test_refusals_and_leaks_of_the_describer(teacher: FakeTeacher, problems: Path, tmp_path: Path) -> None:
    def shy(request: dict[str, Any]) -> Answer:
        if step_of(request) == "description" and "What is 1+5?" in text_of(request):
            return 200, "I'm sorry, but I cannot help with that."
        if step_of(request) == "pseudo_cot" and "What is 2+5?" in text_of(request):
            return 200, "The numbers 2 and 5. The answer is 7."
        if step_of(request) == "description" and "What is 2+5?" in text_of(request):
            return 200, "The numbers 2 and 5. The answer is 7."
        return helpful(request)

    teacher.answer = shy
    report = run(recipe(problems, teacher.url, give_answer_to_reasoner=False), tmp_path / "run")
    assert report.rejected == {"refused": 1, "description tells the answer": 1}


def test_problems_of_an_evaluation_set_are_not_asked_about(teacher: FakeTeacher, problems: Path, tmp_path: Path) -> None:
    held = tmp_path / "held"
    held.mkdir()
    (held / "a.png").write_bytes((problems.parent / "a.png").read_bytes())
    (held / "held.jsonl").write_text(json.dumps({"image": "a.png", "problem": "<image>What is 3+5?", "answer": "8"}))
    report = run(recipe(problems, teacher.url, filters={"evaluation_sets": [str(held / "held.jsonl")]}), tmp_path / "run")
    assert report.rejected["in an evaluation set"] >= 1
    assert not any("What is 3+5?" in text_of(request) for request in teacher.requests)


def test_near_duplicates_are_counted(teacher: FakeTeacher, problems: Path, tmp_path: Path) -> None:
    thought = " ".join(f"step {n} follows from the one before" for n in range(40))

    def alike(request: dict[str, Any]) -> Answer:
        status, reply = helpful(request)
        return status, reply if step_of(
            request
        ) != "reasoning" else f"<think> {thought} </think>{reply.rpartition('</think>')[2]}"

    teacher.answer = alike
    report = run(recipe(problems, teacher.url, filters={"near_duplicates": 0.9}), tmp_path / "run")
    assert (report.kept, report.rejected) == (1, {"near duplicate": 5})
    assert report.examples["near duplicate"].id == "rows.jsonl#1"


def test_a_changed_prompt_redoes_only_what_depends_on_it(teacher: FakeTeacher, problems: Path, tmp_path: Path) -> None:
    run(recipe(problems, teacher.url), tmp_path / "run")
    (tmp_path / "run/coldstart/manifest.json").unlink()
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    (prompts / "reasoning.txt").write_text("{description} {question} {answer} Following the above")
    report = run(recipe(problems, teacher.url, prompts_dir=str(prompts)), tmp_path / "run")
    assert (report.asked, report.reused) == (6, 12)


def test_rows_that_are_the_same_are_asked_about_once(teacher: FakeTeacher, problems: Path, tmp_path: Path) -> None:
    teacher.delay = 0.05
    problems.write_text("\n".join([problems.read_text().splitlines()[2]] * 5))
    report = run(recipe(problems, teacher.url, concurrency=5), tmp_path / "run")
    assert report.kept == 5 and len(teacher.requests) == 3


@pytest.mark.parametrize("seconds", [0.25, 0.6])
def test_kill_9_loses_no_reply_that_had_come(teacher: FakeTeacher, tmp_path: Path, png: bytes, seconds: float) -> None:
    problems = write_problems(tmp_path / "many", png, 40)
    answered: list[str] = []

    def noted(request: dict[str, Any]) -> Answer:
        time.sleep(0.01)
        answered.append(json.dumps(request))
        return helpful(request)

    teacher.answer = noted
    config = tmp_path / "recipe.json"
    config.write_text(recipe(problems, teacher.url).model_dump_json())
    script = f"""
from visionr1.data.coldstart import run
from visionr1.recipe.schema import Recipe
from visionr1.storage import open_store
recipe = Recipe.model_validate_json(open({str(config)!r}).read())
run.run_coldstart(recipe, open_store({str(tmp_path / "run")!r}), lambda pairs: [True] * len(pairs), lambda: False)
"""
    process = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 30
    while not answered and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    time.sleep(0.1)
    before = len(answered)
    report = run_coldstart(recipe(problems, teacher.url), open_store(str(tmp_path / "run")), same, lambda: False)
    assert report.kept == 40 and report.asked + report.reused == 120
    most_in_flight = 4
    assert report.reused >= before - most_in_flight and max(Counter(answered).values()) <= 2


class Remote:
    """A store that is not on this machine's file system, and slow."""

    def __init__(self, folder: Path) -> None:
        self._inner = open_store(str(folder))
        self.url = "s3://elsewhere/run"

    def list(self, prefix: str = "") -> list[str]:
        return self._inner.list(prefix)

    def local_path(self, key: str) -> Path | None:
        return None

    def get_file(self, key: str, local: Path) -> None:
        self._inner.get_file(key, local)

    def write_bytes(self, key: str, data: bytes) -> None:
        time.sleep(0.2)
        self._inner.write_bytes(key, data)


def test_replies_that_come_during_an_upload_are_uploaded_the_next_time(tmp_path: Path) -> None:
    store: Any = Remote(tmp_path / "run")
    log = WorkLog(store)
    log.add("0" * 64, "r", "reasoning", Reply("0", "", "stop"))
    upload = threading.Thread(target=log.flush, args=(True,))
    upload.start()
    time.sleep(0.1)
    log.add("1" * 64, "r", "reasoning", Reply("1", "", "stop"))
    assert log.get("1" * 64) == Reply("1", "", "stop")
    upload.join()
    log.close()
    again = WorkLog(store)
    assert [again.get(str(n) * 64) for n in range(3)] == [Reply("0", "", "stop"), Reply("1", "", "stop"), None]
    again.close()


def test_a_torn_line_is_no_reply(teacher: FakeTeacher, problems: Path, tmp_path: Path) -> None:
    run(recipe(problems, teacher.url), tmp_path / "run")
    (tmp_path / "run/coldstart/manifest.json").unlink()
    (part,) = (tmp_path / "run/coldstart/work").iterdir()
    part.write_bytes(part.read_bytes()[:-7])
    report = run(recipe(problems, teacher.url), tmp_path / "run")
    assert (report.kept, report.asked, report.reused) == (6, 1, 17)


def test_the_progress_line_says_how_fast_what_was_kept_and_what_it_costs(
    teacher: FakeTeacher, problems: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("visionr1.progress.LINE_SECONDS", 0.0)

    def counted(request: dict[str, Any]) -> Answer:
        status, text = helpful(request)
        text = "<think> Hm. </think> Final Answer: 0" if "What is 5+5?" in text_of(request) and "<think>" in text else text
        choice = {"message": {"content": text}, "finish_reason": "stop"}
        return status, {"choices": [choice], "usage": {"prompt_tokens": 1000, "completion_tokens": 500}}

    teacher.answer = counted
    reasoner = {"base_url": teacher.url, "model": "thinker", "prompt_price": 100, "reply_price": 200}
    report = run(recipe(problems, teacher.url, reasoner=reasoner), tmp_path / "run")
    shown = capsys.readouterr().err
    assert "rows/s" in shown and "tokens/s" in shown and "5 kept, 1 wrong answer, cost 1.20" in shown
    assert report.teachers["reasoner"].cost == pytest.approx(1.2) and report.teachers["describer"].prompt_tokens == 12_000


def test_several_images_and_one_picture_for_many_problems(teacher: FakeTeacher, tmp_path: Path, png: bytes) -> None:
    problems = write_problems(tmp_path / "p", png, 1)
    row = {"images": ["a.png", "a.png"], "problem": "<image>What is 1+5?<image>", "answer": "6"}
    problems.write_text(json.dumps(row))
    run(recipe(problems, teacher.url), tmp_path / "run")
    (sample,) = load_coldstart(open_store(str(tmp_path / "run")))
    assert sample.images == (png, png) and sample.problem == "<image>What is 1+5?<image>"
    assert len([*(tmp_path / "run/coldstart/images").glob("*.png")]) == 1
    assert [len(request["messages"][0]["content"]) for request in teacher.requests[:2]] == [3, 3]


def test_own_templates_replace_the_package_s(teacher: FakeTeacher, problems: Path, tmp_path: Path) -> None:
    folder = tmp_path / "prompts"
    folder.mkdir()
    (folder / "reasoning.txt").write_text("Look: {description}\nQ: {question}\n{answer} is right. {} {not a field} {question}")
    run(recipe(problems, teacher.url, prompts_dir=str(folder)), tmp_path / "run")
    assert "Look: The image shows the numbers 2 and 5.\nQ: What is 2+5?\n7 is right. {} {not a field} What is 2+5?" in {
        text_of(request) for request in teacher.requests
    }
