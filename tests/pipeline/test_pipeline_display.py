"""What a person sees while a run works."""

from __future__ import annotations

import sys
from io import StringIO
from pathlib import Path

import pytest
from fake_run import RECIPE, fake_commands
from rich.console import Console

from visionr1.pipeline.display import cause, last_lines
from visionr1.pipeline.local import run_local
from visionr1.pipeline.planner import Retry
from visionr1.progress import progress
from visionr1.rundir.attempts import ATTEMPT, attempts
from visionr1.rundir.layout import attempt_prefix
from visionr1.rundir.progress import Progress, read_progress
from visionr1.storage import open_store


def test_a_terminal_shows_a_bar_for_each_phase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    output = StringIO()
    console = Console(file=output, force_terminal=True, width=160, color_system=None)
    commands = fake_commands(0.0, {"sft": ["crash"]})
    assert run_local(RECIPE, str(tmp_path / "run"), command_for=commands, retry=Retry(first_wait=0.05), console=console) == 0
    screen = output.getvalue().rpartition("SFT (not finished)")[2]
    assert "✓ SFT" in screen and "2/2" in screen and "loss 0.500" in screen
    assert "✓ stage 1" in screen and "4/4" in screen and "loss 0.250" in screen


def test_a_phase_s_progress_reaches_the_runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(str(tmp_path))
    folder = tmp_path / attempt_prefix("sft", 0)
    folder.mkdir(parents=True)
    assert read_progress(store, "sft", 0) is None
    monkeypatch.setenv(ATTEMPT, str(folder))
    with progress("training", 3, 1) as advance:
        assert read_progress(store, "sft", 0) == Progress("training", 1, 3, "")
        advance(2, "loss 0.1")
        assert read_progress(store, "sft", 0) == Progress("training", 3, 3, "loss 0.1")
    assert [path.name for path in folder.iterdir()] == ["progress.json"]


def test_without_a_runner_no_file_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ATTEMPT, raising=False)
    monkeypatch.chdir(tmp_path)
    with progress("training", 1) as advance:
        advance(1)
    assert list(tmp_path.iterdir()) == []


def test_the_end_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(b"x" * 200_000 + b"\nfirst\n\n 10%\r 20%\r100%\nlast \xff\n\n")
    assert last_lines(log, 3) == ["first", "100%", "last �"]


def test_damaged_progress_is_said_once_and_ends_no_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visionr1.pipeline.local._SAMPLE_SECONDS", 0.02)
    script = f"import os, pathlib, time; pathlib.Path(os.environ['{ATTEMPT}'], 'progress.json').write_text('{{'); time.sleep(1)"
    output = StringIO()
    code = run_local(
        RECIPE,
        str(tmp_path / "run"),
        command_for=lambda *_: [sys.executable, "-c", script],
        retry=Retry(max_attempts=1),
        console=Console(file=output, width=300),
    )
    assert code == 1 and attempts(open_store(str(tmp_path / "run")), "sft")[0].exit_code == 0, "it came to its own end"
    assert output.getvalue().count("progress.json: not the progress of an attempt; delete it") == 1


CRASH = """\
SFT: 3 of 12
Traceback (most recent call last):
  File "/app/visionr1/sft/rank.py", line 3, in update
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB: GPU 0 is full
/app/torch/distributed/c10d_logger.py:83: FutureWarning: `all_gather` is deprecated
  return func(*args, **kwargs)
\x1b[36m(Host pid=27153)\x1b[0m [2026-11-28 09:05:20,911] [WARNING] [real_accelerator.py:213] Setting accelerator to CPU.
Loading weights: 100%|##########| 81/81 [00:00<00:00, 8471.44it/s]
[rank0]:[W1128 09:08:05.563] Warning: process group has NOT been destroyed
stopping the other ranks
"""


def test_the_cause_of_a_failure_stands_out_from_warnings(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text(CRASH)
    lines = last_lines(log, 15)
    assert cause(lines, 1) == "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB: GPU 0 is full"
    assert (lines[0], lines[-1]) == ("SFT: 3 of 12", "stopping the other ranks")
    assert not any("deprecated" in line or "accelerator" in line or "it/s" in line for line in lines)
    log.write_text(CRASH + "data.train has no usable row; run `visionr1 data check` to see what is wrong\n")
    assert str(cause(last_lines(log, 15), 64)).startswith("data.train has no usable row")
    assert cause([], 1) is None
