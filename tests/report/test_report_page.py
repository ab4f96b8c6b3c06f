"""The page and the summary, read back as a browser and as a program would."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from visionr1.errors import BadInput
from visionr1.report import terminal_summary, write_report
from visionr1.rundir.attempts import AttemptRecord, write_attempt
from visionr1.storage import open_store


class Page(HTMLParser):
    """Tags with their attributes, all text, and the text of each table row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.rows: list[list[str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data

    def all(self, tag: str, class_: str = "") -> list[dict[str, str | None]]:
        return [found for name, found in self.tags if name == tag and class_ in (found.get("class") or "")]


def report(folder: Path) -> tuple[Page, dict[str, Any]]:
    write_report(open_store(str(folder)))
    return Page((folder / "report.html").read_text()), json.loads((folder / "summary.json").read_text())


def row_of(page: Page, name: str) -> list[str]:
    return next([" ".join(cell.split()) for cell in row] for row in page.rows if row[0].strip() == name)


def test_a_whole_run_has_the_six_panels_and_every_part(make_run: Callable[..., Path]) -> None:
    page, _ = report(make_run())
    assert [found["id"] for found in page.all("figure")] == [f"panel-{letter}" for letter in "ABCDEF"]
    assert [found["aria-label"] for found in page.all("svg")] == [
        "Accuracy by completion length",
        "Accuracy after each phase",
        "Words of reflection",
        "Mean completion length over steps",
        "Held-out accuracy over steps",
        "Mean reward over steps",
    ]
    for part in (
        "Phases",
        "Cold-start filter",
        "The same problems through the phases",
        "Recipe and files",
        "max_completion_tokens: 4096",
    ):
        assert part in page.text
    assert "appears" not in page.text
    assert page.all("img")


def test_the_panels_name_buckets_phases_words_and_limits(make_run: Callable[..., Path]) -> None:
    folder = make_run()
    report(folder)
    text = (folder / "report.html").read_text()
    panels = {part[0]: Page(part).text for part in text.split('<figure id="panel-')[1:]}
    for letter, expected in {
        "A": ["share of outputs", "0–4K", "4K–8K", "8K+", "completion length, tokens", "SFT", "stage 3"],
        "B": ["accuracy", "SFT", "stage 1", "stage 2", "stage 3"],
        "C": ["Wait", "Hmm", "Mistake", "Alternatively", "Check", "occurrences"],
        "D": ["tokens", "global step", "limit 4K", "limit 8K", "limit 16K ↑", "300"],
        "E": ["accuracy", "global step", "stage 2"],
        "F": ["reward", "global step", "stage 2"],
    }.items():
        assert [reported for reported in expected if reported not in panels[letter]] == []


def test_the_phase_table_shows_the_scores(make_run: Callable[..., Path]) -> None:
    page, summary = report(make_run())
    first = summary["phases"]["stage-1"]
    cells = row_of(page, "stage 1")
    assert cells[1] == "done"
    assert cells[2] == f"{100 * first['accuracy']:.1f} % ± {100 * first['standard_error']:.1f}"
    assert cells[3] == f"{first['completion_tokens_mean']:,.0f}"
    assert cells[5:] == ["100 of 100", "1 h 46 min", "40.0 GiB", "1"]


def test_the_filter_table_shows_the_cold_start(make_run: Callable[..., Path]) -> None:
    page, _ = report(make_run())
    assert row_of(page, "kept")[1:3] == ["1,031", "68.7 %"]
    assert row_of(page, "wrong answer")[1:] == ["377", "25.1 %", "", "an excerpt with wrong answer"]
    assert "Wait 2,900, Hmm 310" in page.text


def test_summary_has_the_values_of_each_phase(make_run: Callable[..., Path]) -> None:
    folder = make_run()
    _, summary = report(folder)
    assert list(summary["phases"]) == ["coldstart", "sft", "stage-1", "stage-2", "stage-3", "evaluate"]
    score = json.loads((folder / "eval/stage-3.json").read_text())
    last = summary["phases"]["stage-3"]
    assert {key: last[key] for key in ("accuracy", "standard_error", "completion_tokens_mean", "truncated_ratio")} == {
        key: score[key] for key in ("accuracy", "standard_error", "completion_tokens_mean", "truncated_ratio")
    }
    assert (last["steps"], last["seconds"], last["peak_bytes"], last["state"]) == (100, 7800.0, 7 * 2**33, "done")
    assert last["pause_seconds"] == [] and summary["phases"]["stage-2"]["pause_seconds"] == [93.5]
    assert summary["phases"]["coldstart"]["accuracy"] is None
    assert summary["phases"]["coldstart"]["steps"] is None


def test_nothing_is_loaded_from_elsewhere(make_run: Callable[..., Path]) -> None:
    folder = make_run()
    page, _ = report(folder)
    text = (folder / "report.html").read_text()
    loads = [
        value for _, found in page.tags for key, value in found.items() if key in ("src", "href", "srcset", "data", "xlink:href")
    ]
    assert loads
    assert all(value is not None and value.startswith("data:image/png;base64,") for value in loads)
    assert not page.all("script") + page.all("link") + page.all("iframe") + page.all("base")
    assert "url(" not in text
    assert "@import" not in text
    policy = next(found["content"] for found in page.all("meta") if found.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none'")


HOSTILE = '</pre><script>alert(1)</script><img src=x onerror="alert(2)">{{ 7 * 7 }}'


def test_text_of_models_and_of_data_is_never_markup(make_run: Callable[..., Path]) -> None:
    folder = make_run()
    for phase in ("sft", "stage-1", "stage-2", "stage-3"):
        path = folder / f"eval/{phase}.samples.jsonl"
        first, *others = path.read_text().splitlines()
        row = json.loads(first)
        row |= {"response": f"<think>{HOSTILE}</think>", "problem": HOSTILE, "truth": HOSTILE, "answer": HOSTILE, "id": HOSTILE}
        row["images"] = [*row["images"], '" onload="x']
        path.write_text("\n".join([json.dumps(row), *others]) + "\n")
    page, _ = report(folder)
    assert not page.all("script")
    assert page.text.count(HOSTILE) >= 4
    assert not [found for _, found in page.tags if any(key.startswith("on") for key in found)]
    assert all(re.fullmatch(r"data:image/png;base64,[A-Za-z0-9+/=]+", str(found["src"])) for found in page.all("img"))


def test_a_run_that_has_only_begun(make_run: Callable[..., Path]) -> None:
    page, summary = report(make_run(phases=(), steps=0))
    assert page.text.count("appears after the evaluation") == 4
    assert page.text.count("appears with the first GRPO step") == 2
    assert "Cold-start filter" not in page.text
    assert {values["state"] for values in summary["phases"].values()} == {"waiting"}
    assert set(row_of(page, "stage 1")[2:5]) == {"–"}


def test_a_run_in_its_second_stage(make_run: Callable[..., Path]) -> None:
    page, summary = report(make_run(phases=("coldstart", "sft", "stage-1", "stage-2"), steps=137))
    assert page.text.count("appears after the evaluation") == 4
    assert summary["phases"]["stage-2"]["steps"] == 37
    assert summary["phases"]["stage-3"]["state"] == "waiting"
    assert row_of(page, "stage 2")[5] == "37 of 100"
    assert "137" in page.text


@pytest.mark.parametrize("steps", [1, 2])
def test_the_first_steps_are_drawn_as_dots_or_a_line(make_run: Callable[..., Path], steps: int) -> None:
    page, _ = report(make_run(phases=("sft",), steps=steps))
    assert len(page.all("circle", "dot p1") if steps == 1 else page.all("polyline", "line p1")) == 2


def test_values_that_are_no_numbers_are_left_out(make_run: Callable[..., Path]) -> None:
    folder = make_run()
    lines = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
    for record in lines:
        if record["step"] % 3 == 0:
            record["reward_mean"] = float("nan")
        record["completion_tokens_mean"] = None
    (folder / "steps.jsonl").write_text("".join(json.dumps(record) + "\n" for record in lines))
    score = json.loads((folder / "eval/sft.json").read_text())
    (folder / "eval/sft.json").write_text(json.dumps(score | {"accuracy": float("nan"), "standard_error": None}))
    page, summary = report(folder)
    assert not re.search(r"\b(nan|inf)\b", page.text, re.IGNORECASE)
    assert summary["phases"]["sft"]["accuracy"] is None
    assert page.text.count("appears with the first GRPO step") == 1
    assert len(page.all("polyline", "line p1")) == 1


def test_states_and_times_come_from_all_attempts(make_run: Callable[..., Path]) -> None:
    folder = make_run(phases=("coldstart", "sft", "stage-1"), steps=40)
    for number, one in enumerate(
        [
            AttemptRecord(["visionr1"], 100.0, None, 160.0, 1, None, 5 * 2**30),
            AttemptRecord(["visionr1"], 200.0, None, 230.0, 3, None, 2 * 2**30),
            AttemptRecord(["visionr1"], 300.0, None),
        ]
    ):
        write_attempt(open_store(str(folder)), "stage-1", number, one)
    page, summary = report(folder)
    values = summary["phases"]["stage-1"]
    assert (values["state"], values["seconds"], values["peak_bytes"]) == ("running", 90.0, 5 * 2**30)
    assert row_of(page, "stage 1")[1:2] + row_of(page, "stage 1")[-1:] == ["running", "3"]


def test_done_is_what_has_left_its_result(make_run: Callable[..., Path]) -> None:
    """The evaluation writes the report itself, and on a cluster nobody records attempts in the run directory."""
    folder = make_run(steps=230)
    attempt = folder / "phases/evaluate/attempt-0/attempt.json"
    attempt.write_text(json.dumps(json.loads(attempt.read_text()) | {"ended": None, "exit_code": None}))
    for phase in ("stage-1", "stage-2", "stage-3"):
        (folder / f"phases/{phase}/attempt-0/attempt.json").unlink()
    _, summary = report(folder)
    states = [summary["phases"][phase]["state"] for phase in ("stage-1", "stage-2", "stage-3", "evaluate")]
    assert states == ["done", "done", "begun", "done"]


def test_the_zero_variant_starts_from_the_base_model(make_run: Callable[..., Path]) -> None:
    folder = make_run(phases=("stage-1", "evaluate"), steps=100)
    recipe = (folder / "recipe.yaml").read_text()
    recipe = re.sub(r"^(coldstart|sft):\n(?:[ ].*\n)+", "", recipe, flags=re.M)
    (folder / "recipe.yaml").write_text(recipe)
    score = json.loads((folder / "eval/stage-1.json").read_text())
    (folder / "eval/base.json").write_text(json.dumps(score | {"phase": "base", "step": 0, "accuracy": 0.125}))
    page, summary = report(folder)
    assert list(summary["phases"]) == ["base", "stage-1", "stage-2", "stage-3", "evaluate"]
    assert row_of(page, "base model")[2].startswith("12.5 %")
    assert "12.5 % of the base model" in page.text


def test_the_terminal_shows_phases_and_where_everything_lies(make_run: Callable[..., Path]) -> None:
    folder = make_run()
    store = open_store(str(folder))
    write_report(store)
    console = Console(width=160, record=True, file=StringIO())
    console.print(terminal_summary(store))
    text = console.export_text()
    for reported in (
        "stage 3",
        "done",
        "±",
        "report.html",
        "checkpoints/stage-3/step-300/",
        "eval/stage-3.samples.jsonl",
        str(folder),
    ):
        assert reported in text


def test_a_directory_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"there is no recipe.yaml"):
        write_report(open_store(str(tmp_path)))


def test_scores_of_other_problems_than_the_newest_are_left_out(make_run: Callable[..., Path]) -> None:
    run = make_run()
    for file in (run / "eval").glob("*.json"):
        mark = "half the file" if file.stem == "sft" else "the whole file"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"fingerprint": mark}))
    write_report(open_store(str(run)))
    shown = json.loads((run / "summary.json").read_text())["phases"]
    assert shown["sft"]["accuracy"] is None
    assert shown["stage-1"]["accuracy"] is not None
