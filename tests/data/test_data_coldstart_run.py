from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from fake_teacher import Answer, FakeTeacher, helpful, step_of, text_of, write_problems
from moto.server import ThreadedMotoServer
from PIL import Image

from visionr1.data.coldstart.endpoint import whole_address
from visionr1.data.coldstart.load import load_coldstart
from visionr1.data.coldstart.run import run_coldstart
from visionr1.data.coldstart.teacher import EndpointLost
from visionr1.errors import BadInput, Stopped
from visionr1.metrics import TABLE
from visionr1.recipe.schema import Recipe
from visionr1.rundir.coldstart import ColdStartReport, Example
from visionr1.storage import open_store

KEYS = {"phase", "stage"} | {item.key for item in TABLE if item.key}
KEY = "sk-very-secret-0123456789"


def recipe(problems: Path, url: str, **settings: object) -> Recipe:
    describer = {"base_url": url, "model": "seer", "temperature": 0.5, "max_tokens": 100}
    coldstart = {
        "problems": {"path": str(problems)},
        "describer": describer,
        "reasoner": {"base_url": url, "model": "thinker", "max_tokens": 900},
        "concurrency": 4,
        "retries": 2,
        "patience_seconds": 1,
        **settings,
    }
    return Recipe.model_validate({"coldstart": coldstart, "sft": {}, "model": {"min_pixels": 784, "max_pixels": 784 * 100}})


def same(pairs: list[tuple[str, str]]) -> list[bool]:
    return [given == truth for given, truth in pairs]


def run(recipe: Recipe, run_dir: Path | str, should_stop: Callable[[], bool] = lambda: False) -> ColdStartReport:
    return run_coldstart(recipe, open_store(str(run_dir)), same, should_stop)


def test_four_steps_make_samples_that_sft_can_read(teacher: FakeTeacher, problems: Path, tmp_path: Path, png: bytes) -> None:
    report = run(recipe(problems, teacher.url), tmp_path / "run")
    assert (report.problems, report.kept, report.rejected, report.asked, report.reused) == (6, 6, {}, 18, 0)
    assert report.reflection_words == {"Wait": 6, "Hmm": 0, "Mistake": 0, "Alternatively": 0, "Check": 6}
    samples = load_coldstart(open_store(str(tmp_path / "run")))
    assert [sample.problem for sample in samples] == [f"<image>What is {n}+5?" for n in range(6)]
    assert samples[3].images == (png,)
    assert samples[3].response == (
        "<think> The image shows 3 and 5. Wait, let me check. 3+5=8. </think><answer> Final Answer:8 </answer>"
    )
    line = json.loads((tmp_path / "run/coldstart/data.jsonl").read_text().splitlines()[3])
    assert set(line) == {"id", "image", "conversations"} and line["id"] == "rows.jsonl#3"
    assert [turn["from"] for turn in line["conversations"]] == ["human", "gpt"]
    assert (tmp_path / "run/coldstart" / line["image"]).read_bytes() == png
    assert json.loads((tmp_path / "run/coldstart/report.json").read_text())["kept"] == 6
    assert teacher.most_at_once <= 4


def test_each_step_sees_what_the_paper_gives_it(teacher: FakeTeacher, problems: Path, tmp_path: Path) -> None:
    run(recipe(problems, teacher.url), tmp_path / "run")
    steps = {step_of(request): request for request in teacher.requests if "What is 2+5?" in text_of(request)}
    assert "Correct answer: 7" in text_of(steps["pseudo_cot"])
    assert text_of(steps["description"]).startswith(
        "Given a image, a question:What is 2+5? and a thinking process:Caption:\nTwo numbers, 2 and 5.\nReasoning:\nAdd them., "
        "provide a detailed description containing all the necessary details of the image to answer the question correctly"
    )
    assert text_of(steps["reasoning"]).startswith(
        "The image shows the numbers 2 and 5.\n\nFollowing the above image description, think"
    )
    assert "The correct answer is 7." in text_of(steps["reasoning"])
    for step in ("pseudo_cot", "description"):
        (picture, _) = steps[step]["messages"][0]["content"]
        data = base64.b64decode(picture["image_url"]["url"].removeprefix("data:image/png;base64,"))
        assert Image.open(io.BytesIO(data)).size == (56, 28)
        assert (steps[step]["model"], steps[step]["temperature"], steps[step]["max_tokens"]) == ("seer", 0.5, 100)
    assert (steps["reasoning"]["model"], steps["reasoning"]["max_tokens"]) == ("thinker", 900)


def test_the_answer_can_be_kept_from_the_reasoner(teacher: FakeTeacher, problems: Path, tmp_path: Path) -> None:
    run(recipe(problems, teacher.url, give_answer_to_reasoner=False), tmp_path / "run")
    prompts = [text_of(request) for request in teacher.requests if step_of(request) == "reasoning"]
    assert prompts and not any("correct answer" in prompt for prompt in prompts)


def test_faults_that_pass_are_met_by_asking_again(teacher: FakeTeacher, problems: Path, tmp_path: Path) -> None:
    faults = [
        (500, {"error": "oops"}),
        (429, {"error": "slow down"}),
        (200, b"<html>proxy</html>"),
        (200, {"choices": []}),
        (200, " "),
    ]

    def flaky(request: dict[str, Any]) -> Answer:
        return faults.pop() if faults else helpful(request)

    teacher.answer = flaky
    assert run(recipe(problems, teacher.url, retries=5), tmp_path / "run").kept == 6
    assert len(teacher.requests) == 18 + 5


def test_a_request_that_fails_for_good_costs_one_problem_and_shows_no_key(
    teacher: FakeTeacher, problems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISIONR1_SEER_KEY", KEY)

    def picky(request: dict[str, Any]) -> Answer:
        if "What is 1+5?" in text_of(request):
            return 500, {"error": {"message": f"broken for {KEY}"}}
        if "What is 2+5?" in text_of(request) and step_of(request) == "reasoning":
            return 400, {"error": {"message": "too long"}}
        return helpful(request)

    teacher.answer = picky
    settings = {"base_url": teacher.url, "model": "seer", "api_key_env": "VISIONR1_SEER_KEY"}
    report = run(recipe(problems, teacher.url, describer=settings, concurrency=1, retries=1), tmp_path / "run")
    assert (report.kept, report.rejected) == (4, {"request failed": 1, "too long for the teacher": 1})
    assert Counter(text_of(request) for request in teacher.requests if "What is 1+5?" in text_of(request)).total() == 2
    assert Counter(step_of(request) for request in teacher.requests if "What is 2+5?" in text_of(request))["reasoning"] == 1
    assert "broken for ***" in report.examples["request failed"].excerpt
    assert any(headers.get("authorization") == f"Bearer {KEY}" for headers in teacher.headers)
    assert not any(KEY in file.read_text() for file in (tmp_path / "run").rglob("*.json*"))


def test_an_endpoint_that_is_not_there_is_one_clear_line(problems: Path, tmp_path: Path) -> None:
    with pytest.raises(
        BadInput, match=r"^coldstart.describer: http://127.0.0.1:9/v1 does not answer .*start the server"
    ) as caught:
        run(recipe(problems, "http://127.0.0.1:9/v1", retries=1), tmp_path / "run")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "reported"), [(401, "refuses the key"), (403, "refuses the key"), (404, "does not know the model 'seer'")]
)
def test_an_endpoint_that_refuses_is_one_clear_line(
    teacher: FakeTeacher, problems: Path, tmp_path: Path, status: int, reported: str
) -> None:
    teacher.answer = lambda request: (status, {"error": {"message": "no"}})
    with pytest.raises(BadInput, match=reported):
        run(recipe(problems, teacher.url), tmp_path / "run")
    assert len(teacher.requests) <= 4


def test_a_key_that_is_not_set_is_named(
    teacher: FakeTeacher, problems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VISIONR1_NO_KEY", raising=False)
    settings = {"base_url": teacher.url, "model": "thinker", "api_key_env": "VISIONR1_NO_KEY"}
    with pytest.raises(BadInput, match=r"coldstart.reasoner.api_key_env: the environment variable VISIONR1_NO_KEY is not set"):
        run(recipe(problems, teacher.url, reasoner=settings), tmp_path / "run")
    assert not teacher.requests


def test_a_stopped_run_goes_on_without_asking_twice(teacher: FakeTeacher, problems: Path, tmp_path: Path) -> None:
    teacher.delay = 0.15
    with pytest.raises(Stopped, match="the replies are kept"):
        run(recipe(problems, teacher.url, concurrency=1), tmp_path / "run", should_stop=lambda: len(teacher.requests) >= 4)
    assert not (tmp_path / "run/coldstart/manifest.json").exists()
    parts = (tmp_path / "run/coldstart/work").glob("*.jsonl")
    kept = sum(len(part.read_text().splitlines()) for part in parts)
    assert kept >= 3
    before = len(teacher.requests)
    report = run(recipe(problems, teacher.url), tmp_path / "run")
    assert (report.kept, report.reused, report.asked) == (6, kept, 18 - kept)
    assert len(teacher.requests) - before == 18 - kept


def test_a_killed_process_loses_only_what_was_not_yet_written(teacher: FakeTeacher, problems: Path, tmp_path: Path) -> None:
    teacher.delay = 0.1
    config = tmp_path / "recipe.json"
    config.write_text(recipe(problems, teacher.url).model_dump_json())
    script = f"""
from visionr1.data.coldstart import run
from visionr1.recipe.schema import Recipe
from visionr1.storage import open_store
recipe = Recipe.model_validate_json(open({str(config)!r}).read())
run.run_coldstart(recipe, open_store({str(tmp_path / "run")!r}), None, lambda: False)
"""
    process = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 30
    while not [*(tmp_path / "run/coldstart/work").glob("[!.]*.jsonl")] and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    report = run(recipe(problems, teacher.url), tmp_path / "run")
    assert report.kept == 6 and report.reused > 0


def test_committed_data_is_left_alone(teacher: FakeTeacher, problems: Path, tmp_path: Path) -> None:
    first = run(recipe(problems, teacher.url), tmp_path / "run")
    asked = len(teacher.requests)
    assert run(recipe(problems, teacher.url), tmp_path / "run") == first
    assert len(teacher.requests) == asked


def test_other_wording_or_another_model_is_asked_again(teacher: FakeTeacher, problems: Path, tmp_path: Path) -> None:
    run(recipe(problems, teacher.url), tmp_path / "run")
    (tmp_path / "run/coldstart/manifest.json").unlink()
    report = run(recipe(problems, teacher.url, reasoner={"base_url": teacher.url, "model": "other"}), tmp_path / "run")
    assert (report.asked, report.reused) == (6, 12)


def test_an_endpoint_that_dies_half_way_ends_the_run_but_keeps_the_replies(
    teacher: FakeTeacher, tmp_path: Path, png: bytes
) -> None:
    problems = write_problems(tmp_path / "many", png, 40)
    teacher.answer = lambda request: helpful(request) if len(teacher.requests) < 13 else (503, {"error": "gone"})
    with pytest.raises(
        EndpointLost, match=r"coldstart.* has given no answer for 1 s .*HTTP 503: gone; run it again for the rest"
    ):
        run(recipe(problems, teacher.url, retries=0), tmp_path / "run")
    teacher.answer = helpful
    report = run(recipe(problems, teacher.url), tmp_path / "run")
    assert report.kept == 40 and report.reused >= 10


def test_bad_problems_and_bad_replies_are_counted_with_an_example(
    teacher: FakeTeacher, problems: Path, tmp_path: Path, png: bytes
) -> None:
    rows = [json.loads(line) for line in problems.read_text().splitlines()]
    rows[0]["image"] = "gone.png"
    rows[1]["answer"] = ""
    rows.append({"problem": "What is 9+5?", "answer": "14"})
    problems.write_text("\n".join(map(json.dumps, rows)))

    def mixed(request: dict[str, Any]) -> Answer:
        if "What is 2+5?" in text_of(request) and step_of(request) == "reasoning":
            return 200, "<think> 2+5=8. </think> Final Answer: 8"
        if "What is 3+5?" in text_of(request) and step_of(request) == "description":
            return 200, {"choices": [{"message": {"content": "A long"}, "finish_reason": "length"}]}
        if "What is 4+5?" in text_of(request) and step_of(request) == "reasoning":
            message = {"content": "Final Answer: 9", "reasoning_content": "4+5=9."}
            return 200, {"choices": [{"message": message, "finish_reason": "stop"}]}
        return helpful(request)

    teacher.answer = mixed
    report = run(recipe(problems, teacher.url), tmp_path / "run")
    assert report.rejected == {"bad row": 3, "wrong answer": 1, "no description": 1}
    assert report.examples["wrong answer"] == Example(id="rows.jsonl#2", excerpt="'8', the true answer is '7'")
    assert report.examples["bad row"].id == "rows.jsonl#0"
    responses = [sample.response for sample in load_coldstart(open_store(str(tmp_path / "run")))]
    assert "<think> 4+5=9. </think><answer> Final Answer:9 </answer>" in responses


def test_no_sample_at_all_is_refused_with_the_reasons(teacher: FakeTeacher, problems: Path, tmp_path: Path) -> None:
    teacher.answer = lambda request: (400, {"error": {"message": "max_tokens is too large"}})
    with pytest.raises(BadInput, match=r"none of the 6 problems became a sample \(6 x request failed\).*max_tokens is too large"):
        run(recipe(problems, teacher.url), tmp_path / "run")
    assert json.loads((tmp_path / "run/coldstart/report.json").read_text())["rejected"] == {"request failed": 6}
    with pytest.raises(BadInput, match="has no cold-start data: run `visionr1 coldstart` first"):
        load_coldstart(open_store(str(tmp_path / "run")))


def test_a_damaged_part_is_named(teacher: FakeTeacher, problems: Path, tmp_path: Path) -> None:
    part = tmp_path / "run/coldstart/work/x.jsonl"
    part.parent.mkdir(parents=True)
    part.write_text('{"request": "a"}\n')
    with pytest.raises(BadInput, match=r"work/x.jsonl is damaged .*; remove it"):
        run(recipe(problems, teacher.url), tmp_path / "run")


def test_data_that_lost_rows_after_the_commit_is_refused(teacher: FakeTeacher, problems: Path, tmp_path: Path) -> None:
    run(recipe(problems, teacher.url), tmp_path / "run")
    data = tmp_path / "run/coldstart/data.jsonl"
    data.write_text("\n".join(data.read_text().splitlines()[:4]))
    with pytest.raises(BadInput, match="has 4 samples, 6 were committed"):
        load_coldstart(open_store(str(tmp_path / "run")))


def test_a_run_directory_on_s3(
    teacher: FakeTeacher, problems: Path, tmp_path: Path, png: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    try:
        boto3.client("s3").create_bucket(Bucket="runs")
        assert run(recipe(problems, teacher.url), "s3://runs/one").kept == 6
        samples = load_coldstart(open_store("s3://runs/one"))
        assert (
            len(samples) == 6
            and samples[5].images == (png,)
            and samples[5].response.startswith("<think> The image shows 5 and 5.")
        )
        assert run(recipe(problems, teacher.url), "s3://runs/one").asked == 18
        assert len(teacher.requests) == 18
    finally:
        server.stop()


def test_real_geometry3k_problems(teacher: FakeTeacher, geometry3k: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (geometry3k / "problems.jsonl").read_text().splitlines()]
    truths = {row["problem"].removeprefix("<image>"): row["answer"] for row in rows}

    def solver(request: dict[str, Any]) -> tuple[int, str]:
        if step_of(request) != "reasoning":
            return 200, "Some lines and angles {with braces}."
        answer = next(answer for problem, answer in truths.items() if problem in text_of(request))
        return 200, f"<think> The description says so. It is option {answer}. </think> **Final Answer: {answer}**"

    teacher.answer = solver
    report = run(recipe(geometry3k / "problems.jsonl", teacher.url), tmp_path / "run")
    assert (report.kept, report.rejected) == (10, {})
    samples = load_coldstart(open_store(str(tmp_path / "run")))
    assert samples[0].images == ((geometry3k / "11.png").read_bytes(),)
    assert samples[0].response == "<think> The image shows so. It is option D. </think><answer> Final Answer:D </answer>"


def test_the_demo_s_teacher(tmp_path: Path) -> None:
    from visionr1.demo.teacher import MODEL, scripted_teacher

    with scripted_teacher() as url:
        server = {"base_url": "demo://teacher", "model": MODEL}
        settings = recipe(Path("unused"), url, describer=server, reasoner=server).model_dump(mode="json")
        settings["coldstart"]["problems"] = {"path": "demo://digits/train", "limit": 30}
        settings["model"]["min_pixels"] = 56 * 112
        demo = Recipe.model_validate(settings)
        report = run_coldstart(demo, open_store(str(tmp_path / "run")), same, lambda: False, {"demo://teacher": url}.__getitem__)
    assert report.problems == 30 and report.kept >= 12
    assert "request failed" not in report.rejected and "bad row" not in report.rejected
    assert all("description" not in sample.response.lower() for sample in load_coldstart(open_store(str(tmp_path / "run"))))


def test_what_is_asked_answered_kept_and_dropped_can_be_watched(teacher: FakeTeacher, problems: Path, tmp_path: Path) -> None:
    teacher.answer = lambda request: (400, {"error": "no"}) if "What is 5+5?" in text_of(request) else helpful(request)
    published: list[dict[str, Any]] = []
    store = open_store(str(tmp_path / "run"))
    report = run_coldstart(recipe(problems, teacher.url), store, same, lambda: False, publish=published.append)
    assert all(values["phase"] == "coldstart" and values.keys() <= KEYS for values in published)
    assert published[0]["coldstart_problems"] == 6
    assert sum(values.get("coldstart_requests", 0) for values in published) == report.asked
    assert sum(values.get("coldstart_failures", 0) for values in published) == 1
    assert [values["coldstart_answered"] for values in published if "coldstart_answered" in values][-1] == 6
    assert (published[-1]["coldstart_kept"], published[-1]["coldstart_dropped"]) == (5, {"request failed": 1})


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("http://localhost:8000", "http://localhost:8000/v1"),
        ("http://localhost:8000/", "http://localhost:8000/v1"),
        ("http://localhost:8000/v1", "http://localhost:8000/v1"),
        ("https://example.org/openai/v2/", "https://example.org/openai/v2/"),
    ],
)
def test_an_address_may_leave_out_v1(written: str, asked: str) -> None:
    assert whole_address(written) == asked
