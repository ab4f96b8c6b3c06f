"""SFT stopped, killed and gone on with ends with the weights of the run that nothing happened to, bit by bit."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ranks import run_ranks
from s3_proxy import Proxy
from samples import samples
from sft_ranks import Faults, prepare, sft, sft_on_s3

from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.steplog import read_steps
from visionr1.storage import open_store

STEPS = list(range(1, 7))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return samples(tmp_path_factory.mktemp("sft") / "data")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, data: Path) -> str:
    run = prepare(tmp_path_factory.mktemp("whole") / "run", data)
    assert run_ranks(sft, 2, run) == ["done", "done"]
    return run


def steps(run: str) -> list[dict[str, Any]]:
    return [record for record in read_steps(open_store(run)) if record["phase"] == "sft"]


def assert_same_end(run: str, whole: str) -> None:
    assert [record["step"] for record in steps(run)] == STEPS
    for ours, theirs in zip(steps(run), steps(whole), strict=True):
        assert (ours["loss"], ours["grad_norm"]) == (theirs["loss"], theirs["grad_norm"]), ours["step"]
    end = "checkpoints/sft/step-6/model.safetensors"
    assert (Path(run) / end).read_bytes() == (Path(whole) / end).read_bytes()


def test_a_whole_run_learns_and_keeps_its_last_checkpoints(whole: str) -> None:
    assert [record["step"] for record in steps(whole)] == STEPS
    losses = [record["loss"] for record in steps(whole)]
    assert losses[-1] < losses[0]
    assert Checkpoints(open_store(whole), "sft").steps() == [4, 6]
    assert Checkpoints(open_store(whole), "sft").state(6)["final"] is True
    saved = [record["step"] for record in steps(whole) if "checkpoint" in record["step_seconds"]]
    assert saved == [2, 4, 6]


def test_a_stopped_run_goes_on(tmp_path: Path, data: Path, whole: str) -> None:
    run = prepare(tmp_path / "run", data)
    reported = run_ranks(sft, 2, run, Faults(stop_in=3))
    assert reported == ["SFT stopped after step 3, which is committed"] * 2
    assert run_ranks(sft, 2, run) == ["done", "done"]
    assert_same_end(run, whole)
    assert [record["step"] for record in steps(run) if record.get("pause_seconds", 0) > 0] == [4]


def test_a_run_killed_before_a_commit_goes_on_with_another_number_of_checkpoints(tmp_path: Path, data: Path, whole: str) -> None:
    """Only the newest checkpoint is kept, so the one that it goes on from is gone before the last is written."""
    run = prepare(tmp_path / "run", data, "checkpoint.keep_last=1")
    assert run_ranks(sft, 2, run, Faults(die_before_commit_of=4)) == ["killed", "killed"]
    assert [record["step"] for record in steps(run)] == [1, 2, 3, 4], "what is committed is in the log"
    assert Checkpoints(open_store(run), "sft").steps() == [2]
    assert run_ranks(sft, 2, run) == ["done", "done"]
    assert_same_end(run, whole)
    assert Checkpoints(open_store(run), "sft").steps() == [6]
    folder = Path(run) / "checkpoints/sft/step-6"
    files = {entry["path"] for entry in json.loads((folder / "manifest.json").read_text())["files"]}
    assert {"config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja", "processor_config.json"} <= files


def test_two_drivers_in_one_run_directory_end_with_one_series_of_steps(tmp_path: Path, data: Path) -> None:
    """The first one is cut off before a commit, and is back when the second one has taken the run over."""
    alone, run = prepare(tmp_path / "alone", data), prepare(tmp_path / "run", data)
    assert run_ranks(sft, 1, alone) == ["done"]
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(run_ranks, sft, 1, run, Faults(cut_off_before_commit_of=4))
        while [record["step"] for record in steps(run)] != [1, 2, 3, 4]:
            assert not first.done()
        assert run_ranks(sft, 1, run) == ["done"]
        assert "took this run over" in first.result()[0]
    assert_same_end(run, alone)
    assert Checkpoints(open_store(run), "sft").steps() == [4, 6]


def test_steps_go_on_while_a_bucket_takes_a_checkpoint(tmp_path: Path, data: Path, whole: str, proxy: Proxy, s3_url: str) -> None:
    """The bucket takes no weights of step 2 before the third step is in the log: an upload inside the step would hang."""
    written = "PUT /" + s3_url.removeprefix("s3://") + "/steps.jsonl"  # once empty, then once a step
    proxy.held = lambda line: "step-2/model.safetensors" in line and proxy.seen.count(written) < 4
    run = prepare(s3_url, data)
    environment = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    (tmp_path / "ranks").mkdir()
    assert run_ranks(sft_on_s3, 2, run, environment, str(tmp_path / "ranks")) == ["done", "done"]
    assert [record["step"] for record in steps(run)] == STEPS
    assert Checkpoints(open_store(run), "sft").steps() == [4, 6]
    ours, theirs = (Checkpoints(open_store(place), "sft").fetch(6) / "model.safetensors" for place in (run, whole))
    assert ours.read_bytes() == theirs.read_bytes()


def test_samples_that_changed_are_refused(tmp_path: Path) -> None:
    data = samples(tmp_path / "data")
    run = prepare(tmp_path / "run", data)
    run_ranks(sft, 2, run, Faults(stop_in=2))
    whole = data.read_text()
    data.write_text(whole.replace("Final Answer:", "Final Answer: ", 1))
    reported = "the data for SFT is not the data of this run: other texts in the same number of rows. Restore the old data"
    assert [text.startswith(reported) for text in run_ranks(sft, 2, run)] == [True, True]
    data.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    reported = "the data for SFT is not the data of this run: 12 rows before, 11 now. Restore the old data"
    assert [text.startswith(reported) for text in run_ranks(sft, 2, run)] == [True, True]


def test_one_rank_goes_on_where_two_were(tmp_path: Path, data: Path, whole: str) -> None:
    run = prepare(tmp_path / "run", data)
    run_ranks(sft, 2, run, Faults(stop_in=2))
    assert run_ranks(sft, 1, run) == ["done"]
    for ours, theirs in zip(steps(run), steps(whole), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5), ours["step"]
        assert ours["trained_tokens"] == theirs["trained_tokens"]


def test_a_rank_without_a_usable_sample_keeps_pace(tmp_path: Path) -> None:
    """Every second sample is damaged; with one sample a rank a step, ranks run out of data in different steps."""
    data = samples(tmp_path / "data", broken=(0, 2, 3, 5, 8, 9))
    settings = ("sft.global_batch_size=2", "optimiser.zero_stage=2")
    two, one = prepare(tmp_path / "two", data, *settings), prepare(tmp_path / "one", data, *settings)
    assert run_ranks(sft, 2, two) == ["done", "done"]
    assert run_ranks(sft, 1, one) == ["done"]
    tokens = [record["trained_tokens"] for record in steps(two)]
    assert tokens == [record["trained_tokens"] for record in steps(one)]
    assert 0 in tokens or len(set(tokens)) > 1
    for ours, theirs in zip(steps(two), steps(one), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5, abs=1e-9), ours["step"]
