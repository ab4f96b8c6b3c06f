"""Published sets scored through real HTTP: a model's endpoint and a judge, both with faults."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from published_sets import mathverse_set, mathvision_set
from rude_endpoint import Behaviour, answers, rude_endpoint, says, sends
from typer.testing import CliRunner

from visionr1.cli import app
from visionr1.data.coldstart.teacher import EndpointLost
from visionr1.errors import BadInput
from visionr1.evaluate.published import Served, run_benchmarks
from visionr1.recipe import Recipe, load_recipe
from visionr1.recipe.source import Source
from visionr1.rundir.benchmark_scores import BenchmarkScore, read_benchmarks
from visionr1.storage import open_store

QUICK = [
    "evaluation.requests.concurrency=3",
    "evaluation.requests.retries=2",
    "evaluation.requests.patience_seconds=2",
    "reward.processes=1",
]


def recipe(sets: list[dict[str, str]], *settings: str, judge: str | None = None) -> Recipe:
    judged = [f"evaluation.judge={json.dumps({'base_url': judge, 'model': 'wise'})}"] if judge else []
    return load_recipe("demo", [*QUICK, f"evaluation.benchmarks={json.dumps(sets)}", *judged, *settings])


def number_in(text: str) -> str:
    found = re.search(r"number (\d+)", text)
    return "?" if found is None else found[1]


def knows_small_numbers(text: str) -> str:
    """Right below 4; the choice is given by its letter."""
    number = int(number_in(text))
    if number >= 4:
        return "I cannot say."
    return "<think>Easy.</think><answer>B</answer>" if "(B)" in text else f"It is \\boxed{{{number}}}."


def test_a_served_model_is_scored_by_the_sets_rule_and_by_ours(tmp_path: Path) -> None:
    with rude_endpoint(last=answers(knows_small_numbers)) as endpoint:
        one = recipe([{"name": "mathvision", "path": str(mathvision_set(tmp_path / "set"))}])
        (score,) = run_benchmarks("clever", one, tmp_path / "out", Served(endpoint.url), [])
    assert [score.accuracy, score.strict_accuracy, score.problems] == pytest.approx([4 / 6, 4 / 6, 6])
    assert score.standard_error == pytest.approx((4 / 6 * 2 / 6 / 5) ** 0.5)
    assert (score.prompt_tokens, score.completion_tokens, score.truncated_ratio) == (60, 30, 0.0)
    assert score.labelled == "rule"
    assert score.conditions.rule == "letter-or-value, version 1"
    assert score.conditions.temperature == one.evaluation.temperature
    request = endpoint.requests[0]
    assert (request["model"], request["top_p"], request["max_tokens"]) == ("clever", 0.95, one.evaluation.max_completion_tokens)
    assert request["messages"][0]["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")
    assert len({request["seed"] for request in endpoint.requests}) == 6


def test_faults_of_the_endpoint_are_retried_and_a_lost_one_keeps_what_it_said(tmp_path: Path) -> None:
    one = recipe([{"name": "mathvision", "path": str(mathvision_set(tmp_path / "set"))}], "evaluation.requests.concurrency=1")
    busy = [sends(429, "{}", retry_after="0"), sends(500, "oops"), sends(200, "{broken")]
    good = [answers(knows_small_numbers)] * 3
    with rude_endpoint(*busy, *good, last=sends(503, "{}")) as endpoint, pytest.raises(EndpointLost, match="run it again"):
        run_benchmarks("clever", one, tmp_path / "out", Served(endpoint.url), [])
    with rude_endpoint(last=answers(knows_small_numbers)) as endpoint:
        (score,) = run_benchmarks("clever", one, tmp_path / "out", Served(endpoint.url), [])
        assert len(endpoint.requests) == 3
        assert run_benchmarks("clever", one, tmp_path / "out", Served(endpoint.url), []) == [score]
        assert len(endpoint.requests) == 3
    assert score.accuracy == pytest.approx(4 / 6)


def test_samples_have_seeds_of_their_own_and_two_standard_errors(tmp_path: Path) -> None:
    def sometimes(text: str) -> str:
        return f"\\boxed{{{number_in(text)}}}" if len(endpoint.requests) % 2 else "no"

    one = recipe(
        [{"name": "mathvision", "path": str(mathvision_set(tmp_path / "set"))}],
        "evaluation.samples=4",
        "evaluation.requests.concurrency=1",
    )
    with rude_endpoint() as endpoint:
        endpoint.last = answers(sometimes)
        (score,) = run_benchmarks("moody", one, tmp_path / "out", Served(endpoint.url), [])
    assert len({request["seed"] for request in endpoint.requests}) == 24
    assert score.samples == 4
    assert score.standard_error is not None
    assert score.standard_error_of_seeds is not None
    assert score.standard_error_of_seeds > score.standard_error  # the seeds differ, the problems do not


def judging(agree: Callable[[str], str]) -> Behaviour:
    """A judge that reads the number in a reply, and compares it as `agree` says."""

    def reply(text: str) -> str:
        if "Text of the person" in text:
            found = re.search(r"person:\n.*?(\w+)\.?\n", text, re.DOTALL)
            return "none" if found is None or found[1] == "say" else found[1]
        return agree(text)

    return answers(reply)


def test_a_judge_reads_and_decides_and_is_never_asked_twice(tmp_path: Path) -> None:
    file = mathverse_set(tmp_path / "set")

    def model(text: str) -> str:
        return "I cannot say." if text.startswith("Text Lite") else "There are five."

    with rude_endpoint(last=answers(model)) as endpoint, rude_endpoint() as judge:
        # Faults first: busy, broken, and one useless verdict, which is asked for again.
        judge.behaviours = [sends(429, "{}", retry_after="0"), sends(502, "<html>")]
        judge.last = judging(lambda text: "1" if "Answer: five" in text else "0")
        sets = [{"name": "mathverse", "path": str(file)}]
        (score,) = run_benchmarks("m", recipe(sets, judge=judge.url), tmp_path / "out", Served(endpoint.url), [])
        asked = len(judge.requests)
        again = recipe(sets, "evaluation.samples=2", judge=judge.url)
        (twice,) = run_benchmarks("m", again, tmp_path / "out", Served(endpoint.url), [])
        assert len(judge.requests) == asked
    assert (score.labelled, score.accuracy, score.unjudged) == ("judge", 0.75, 0)
    assert score.figures == {"Text Dominant": 1.0, "Text Lite": 0.0, "Vision Intensive": 1.0, "Vision Only": 1.0}
    assert score.conditions.judge is not None and score.conditions.judge.model == "wise"
    assert score.judge_tokens > 0
    assert (twice.accuracy, twice.judge_tokens) == (0.75, 0)
    assert all(request["temperature"] == 0 for request in judge.requests)


def test_a_judge_without_a_usable_verdict_is_counted_and_no_judge_is_said(tmp_path: Path) -> None:
    sets = [{"name": "mathverse", "path": str(mathverse_set(tmp_path / "set"))}]
    with rude_endpoint(last=says("<think>5</think><answer>5</answer>")) as endpoint, rude_endpoint(last=says("perhaps")) as judge:
        (score,) = run_benchmarks("m", recipe(sets, judge=judge.url), tmp_path / "out", Served(endpoint.url), [])
        assert (score.accuracy, score.unjudged, score.strict_accuracy) == (0.0, 4, 1.0)
        assert len(judge.requests) == 3 * 4
        (ruled,) = run_benchmarks("m", recipe(sets), tmp_path / "out", Served(endpoint.url), [])
    assert (ruled.labelled, ruled.accuracy) == ("rule, no judge", 1.0)
    assert len(read_benchmarks(open_store(str(tmp_path / "out")))) == 2


def test_scores_of_other_files_sampling_or_prompts_lie_apart(tmp_path: Path) -> None:
    file = mathvision_set(tmp_path / "set")
    sets = [{"name": "mathvision", "path": str(file)}]
    with rude_endpoint(last=answers(knows_small_numbers)) as endpoint:

        def score(*settings: str) -> BenchmarkScore:
            (found,) = run_benchmarks("m", recipe(sets, *settings), tmp_path / "out", Served(endpoint.url), [])
            return found

        whole = score()
        greedy = score("evaluation.temperature=0")
        file.write_text("".join(file.read_text().splitlines(keepends=True)[:3]))
        half = score()
    kept = read_benchmarks(open_store(str(tmp_path / "out")))
    assert len({one.conditions for one in kept}) == 3
    assert [whole.problems, greedy.problems, half.problems] == [6, 6, 3]


def test_problems_of_the_training_data_are_listed_and_can_be_left_out(tmp_path: Path) -> None:
    long = "a line of more than thirteen words which both of the questions have in common, word for word, in number"
    file = mathvision_set(tmp_path / "set", 3)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[1]["question"] = f"{long} 1?"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    train = tmp_path / "train.jsonl"
    train.write_text(json.dumps({"images": ["set/images/0.png"], "problem": f"<image>Now {long} 7", "answer": "1"}) + "\n")
    sets = [{"name": "mathvision", "path": str(file)}]
    with rude_endpoint(last=answers(knows_small_numbers)) as endpoint:
        served, seen = Served(endpoint.url), [Source(path=str(train))]
        (score,) = run_benchmarks("m", recipe(sets), tmp_path / "out", served, seen)
        (rest,) = run_benchmarks("m", recipe(sets, "evaluation.drop_seen=true"), tmp_path / "out", served, seen)
    assert [line.split(":")[0] for line in score.seen] == ["test.jsonl#1"]
    assert "13 words in a row" in score.seen[0]
    assert (score.problems, score.dropped) == (3, 0)
    assert (rest.problems, rest.dropped, len(rest.seen)) == (2, 1, 1)
    assert rest.conditions != score.conditions


def test_a_score_is_made_again_when_more_is_known_of_the_training_data(tmp_path: Path) -> None:
    file = mathvision_set(tmp_path / "set", 3)
    train = tmp_path / "train.jsonl"
    train.write_text(json.dumps({"images": ["set/images/0.png"], "problem": "<image>What is number 1?", "answer": "1"}) + "\n")
    one = recipe([{"name": "mathvision", "path": str(file)}])
    with rude_endpoint(last=answers(knows_small_numbers)) as endpoint:
        served = Served(endpoint.url)
        (unknown,) = run_benchmarks("m", one, tmp_path / "out", served, [])
        (known,) = run_benchmarks("m", one, tmp_path / "out", served, [Source(path=str(train))])
        assert len(endpoint.requests) == 3
    assert not unknown.seen
    assert known.seen
    assert read_benchmarks(open_store(str(tmp_path / "out"))) == [known]


def test_the_recipe_s_system_prompt_goes_before_each_question(tmp_path: Path) -> None:
    one = recipe([{"name": "mathvision", "path": str(mathvision_set(tmp_path / "set", 2))}], "model.system_prompt=Think first.")
    with rude_endpoint(last=answers(knows_small_numbers)) as endpoint:
        run_benchmarks("m", one, tmp_path / "out", Served(endpoint.url), [])
    assert [request["messages"][0] for request in endpoint.requests] == [{"role": "system", "content": "Think first."}] * 2


def test_a_foreign_score_is_refused_in_a_line(tmp_path: Path) -> None:
    with rude_endpoint(last=answers(knows_small_numbers)) as endpoint:
        sets = [{"name": "mathvision", "path": str(mathvision_set(tmp_path / "set", 2))}]
        run_benchmarks("m", recipe(sets), tmp_path / "out", Served(endpoint.url), [])
    (file,) = (tmp_path / "out/benchmarks").glob("*/*.json")
    text = file.read_text()
    for old, new in (('"split"', '"splot"'), ('"top_p": 0.95', '"top_p": "much"'), ('"judge": null', '"judge": {}')):
        file.write_text(text.replace(old, new))
        with pytest.raises(BadInput, match="not a benchmark's score; delete it"):
            read_benchmarks(open_store(str(tmp_path / "out")))


def test_the_command_scores_a_served_model_and_shows_conditions(tmp_path: Path) -> None:
    file = mathvision_set(tmp_path / "set", 3)
    (tmp_path / "recipe.yaml").write_text("preset: demo\n")
    with rude_endpoint(last=answers(knows_small_numbers)) as endpoint:
        command = ["eval", "clever", "--recipe", str(tmp_path / "recipe.yaml"), "--benchmark", f"mathvision={file}", "--greedy"]
        done = CliRunner().invoke(app, [*command, "--endpoint", endpoint.url, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    shown = " ".join(done.output.split())
    for part in (
        "MATH-Vision, 3 problems of test.jsonl",
        "100.0",
        "letter-or-value, version 1",
        "judge none",
        "temperature 0, top_p 1",
    ):
        assert part in shown
    assert endpoint.requests[0]["temperature"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["m", "--benchmark", "gsm8k"], "--benchmark gsm8k: no such set; there are mathvista"),
        (["m", "--benchmark", "mathverse", "--judge", "http://localhost:1"], "--judge URL and --judge-model NAME"),
        (["--run", "x", "--judge-model", "m"], "a run has its sets, judge and sampling in its recipe"),
        (["--run", "x", "--trained-on", "y.jsonl"], "a run has its sets, judge and sampling in its recipe"),
        (["--run", "x", "--drop-seen"], "a run has its sets, judge and sampling in its recipe"),
        (["m", "--benchmark", "mathvista", "--drop-seen"], "--drop-seen needs to know what MODEL has learned from"),
        (["m", "--endpoint", "http://localhost:1"], "name some with --benchmark"),
        (["--run", "x", "--benchmark", "mathvista"], "a run has its sets, judge and sampling in its recipe"),
        (["m", "--benchmark", "mathvista=x.jsonl", "--data", "y"], "--data, --image-root and --column are about held-out"),
        (["m", "--benchmark", "mathvista=x.jsonl", "--endpoint", "http://localhost:1"], "x.jsonl does not exist"),
        (["m", "--benchmark", "mathvista=x.jsonl", "--endpoint", "me"], "--endpoint: base_url: me is no address"),
        (["m", "--benchmark", "mathverse", "--judge", "me", "--judge-model", "m"], "evaluation.judge.base_url: me is no address"),
    ],
)
def test_what_cannot_be_scored_is_said_in_a_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["eval", *arguments, "--out", str(tmp_path)])
    assert done.exit_code == 64
    assert message in " ".join(done.output.split())


def test_a_killed_command_goes_on_where_it_was(tmp_path: Path) -> None:
    file = mathvision_set(tmp_path / "set", 12)
    command = [sys.executable, "-m", "visionr1.cli", "eval", "clever", "--recipe", "demo", "--benchmark", f"mathvision={file}"]
    command += ["--out", str(tmp_path / "out"), "--set", "evaluation.requests.concurrency=2"]

    def slowly(text: str) -> str:
        time.sleep(0.2)
        return knows_small_numbers(text)

    with rude_endpoint(last=answers(slowly)) as endpoint:
        first = subprocess.Popen([*command, "--endpoint", endpoint.url], stderr=subprocess.DEVNULL)
        while len(endpoint.requests) < 5:
            assert first.poll() is None
            time.sleep(0.02)
        first.kill()
        first.wait()
        asked = len(endpoint.requests)
        subprocess.run([*command, "--endpoint", endpoint.url], check=True, capture_output=True)
        again = [request["seed"] for request in endpoint.requests[asked:]]
    (score,) = read_benchmarks(open_store(str(tmp_path / "out")))
    assert score.problems == 12
    assert len(again) <= 12 - (asked - 2), "only the open requests and the new ones are sent"
    assert len({request["seed"] for request in endpoint.requests}) == 12
