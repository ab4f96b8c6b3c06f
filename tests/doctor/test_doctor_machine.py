"""Each bad thing that a machine can have is one line with a remedy, and stops no other check."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest

from visionr1.doctor import bandwidth, machine
from visionr1.doctor.finding import Finding, closing, good, guarded
from visionr1.doctor.run import link_commands, look_at_machine, watch
from visionr1.errors import BadInput
from visionr1.recipe import load_recipe

Usage = namedtuple("Usage", "total used free")
H100 = machine.Gpu("NVIDIA H100 80GB HBM3", "580.65", 79.6, 79.1)


def driver_that_prints(folder: Path, text: str, code: int = 0) -> list[str]:
    script = folder / "driver.py"
    script.write_text(f"print({text!r})\nraise SystemExit({code})\n")
    return [sys.executable, str(script)]


def says(finding: Finding, state: str, *words: str) -> None:
    assert finding.state == state and "\n" not in finding.line()
    for word in words:
        assert word in finding.line()


def test_the_drivers_answer_is_read(tmp_path: Path) -> None:
    line = "NVIDIA H100 80GB HBM3, 580.65.06, 81559, 81000"
    gpus = machine.ask_driver(driver_that_prints(tmp_path, f"{line}\n{line}"))
    assert isinstance(gpus, list) and len(gpus) == 2
    says(machine.driver(gpus, wanted=True), "good", "2 x NVIDIA H100", "driver 580.65.06")
    says(machine.gpu_memory(gpus), "good", "79.1 of 79.6 GiB")


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [("NVIDIA-SMI has failed", 9, "ended with 9: NVIDIA-SMI has failed"), ("what?", 0, "another form")],
)
def test_a_driver_that_does_not_answer_is_bad_only_where_a_gpu_is_wanted(
    tmp_path: Path, text: str, code: int, words: str
) -> None:
    why = machine.ask_driver(driver_that_prints(tmp_path, text, code))
    assert isinstance(why, str) and words in why
    says(machine.driver(why, wanted=True), "bad", words, "install the NVIDIA driver")
    says(machine.driver(why, wanted=False), "not seen", words)
    says(machine.gpu_memory(why), "not seen", "no GPU")


def test_no_driver_at_all_is_named() -> None:
    assert machine.ask_driver(["no-such-smi"]) == "there is no no-such-smi here"


def test_a_gpu_that_somebody_else_uses_is_bad() -> None:
    says(machine.gpu_memory([H100, machine.Gpu("NVIDIA H100", "580", 79.6, 20.0)]), "bad", "20.0 of 79.6", "another process")


def test_a_torch_that_sees_no_gpu_of_the_driver_is_bad() -> None:
    says(machine.torch_sees([H100]), "bad", "torch", "GPU")
    says(machine.torch_sees("no driver"), "good", "torch")


def test_a_missing_engine_is_bad_with_what_to_install() -> None:
    says(machine.vllm("vllm", ("no-such-vllm",)), "bad", "visionr1-ptst[rollout-gpu]", "rollout.engine=hf")
    says(machine.vllm("hf"), "not seen", "rollout.engine is hf")


def test_small_shared_memory_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(64 << 20, 0, 64 << 20))
    says(guarded("shm", lambda: machine.shared_memory(tmp_path)), "bad", "64 MiB are free", "--shm-size")


def test_no_shared_memory_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    says(guarded("shm", lambda: machine.shared_memory(tmp_path / "none")), "bad", "cannot write")


def test_a_full_disk_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(400 << 30, 0, 100 << 30))
    says(machine.disk(8_300_000_000, tmp_path), "bad", "100 GiB are free", "need 218", "TMPDIR")
    says(machine.disk(1_700_000, tmp_path), "good", "100 GiB are free")


def test_a_home_that_cannot_be_written_is_bad(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    says(machine.home(blocked / "home"), "bad", "Not a directory", "HOME=/tmp/home")
    says(machine.home(tmp_path / "new"), "good", "can be written")


def test_an_error_in_a_check_is_a_finding_and_no_traceback() -> None:
    def breaks() -> Finding:
        raise RuntimeError("CUDA error: an illegal\nmemory access")

    def refused() -> Finding:
        raise BadInput("model.base: is nothing; give something")

    says(guarded("x", breaks), "bad", "RuntimeError: CUDA error: an illegal\\nmemory access", "--log FILE")
    says(guarded("x", refused), "bad", "model.base: is nothing; give something")


def test_an_unknown_model_stops_only_the_check_that_needs_its_size() -> None:
    recipe = load_recipe("demo", ["model.base=somebody/else", "rollout.engine=hf"])
    found = {finding.check: finding for finding in look_at_machine(recipe, "no driver")}
    says(found["disk"], "bad", "somebody/else")
    assert found["home"].state == "good" and list(found)[-1] == "home"


def played(tmp_path: Path, source: str, checks: tuple[str, ...], seconds: float) -> list[Finding]:
    """What is found of a part that a script plays."""
    script = tmp_path / "part.py"
    script.write_text("import json, os, sys, time\nreport = os.fdopen(int(sys.argv[-1]), 'w')\n" + source)
    with (tmp_path / "log").open("w+") as log:
        return list(watch([[sys.executable, str(script)]], 0, checks, time.monotonic() + seconds, log))


def test_a_process_that_dies_leaves_the_other_checks_not_seen(tmp_path: Path) -> None:
    first = json.dumps(good("model", "fine").to_json())
    source = f"print({first!r}, file=report, flush=True)\nprint('CUDA out of memory', flush=True)\nos.kill(os.getpid(), 9)\n"
    model, start, sleep = played(tmp_path, source, ("model", "start", "sleep"), 60)
    assert model == good("model", "fine")
    says(start, "bad", "SIGKILL", "CUDA out of memory", "--log FILE")
    says(sleep, "not seen", "start did not end")


def test_a_process_that_hangs_ends_with_the_time(tmp_path: Path) -> None:
    start, sleep = played(tmp_path, "time.sleep(600)\n", ("start", "sleep"), 1)
    says(start, "bad", "not done when the time was over", "--seconds")
    says(sleep, "not seen")


def test_without_time_nothing_is_started(tmp_path: Path) -> None:
    (start,) = played(tmp_path, "", ("start",), 0)
    says(start, "not seen", "no time was left")


def test_processes_measure_the_bandwidth_between_them(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+") as log:
        (link,) = watch(link_commands(2, "cpu"), 0, ("link",), time.monotonic() + 120, log)
    says(link, "good", "gloo sums over 2 processes")
    assert link.figures["bytes_per_second"] > 1e6


def test_a_slow_or_wrong_link_is_bad() -> None:
    says(bandwidth.judge("nccl", 8, 3e9, 8e9, True), "bad", "3.0 GB/s, less than 8", "NCCL_DEBUG")
    says(bandwidth.judge("nccl", 8, 300e9, 8e9, False), "bad", "the sum is wrong", "take this node out")


def test_the_last_line_counts() -> None:
    assert closing([good("a", ""), good("b", ""), machine.gpu_memory("")]) == "2 good, 0 bad, 1 not seen"
