"""`visionr1 sft` and its ranks: what a signal does before there is anything to save."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from samples import samples
from sft_ranks import prepare

from visionr1.errors import Stopped
from visionr1.sft import launch

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_ranks_listen_stops_at_once(tmp_path: Path, number: int) -> None:
    """torchrun takes seconds to import; a signal in that time must not be lost, or the phase would run on."""
    run = prepare(tmp_path / "run", samples(tmp_path / "data"))
    command = [sys.executable, "-m", "visionr1.cli", "sft", "--run", run]
    sft = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    while not (torchrun := psutil.Process(sft.pid).children()) and time.monotonic() < deadline:
        time.sleep(0.02)
    sft.send_signal(number)
    reported = sft.communicate(timeout=60)[1]
    assert sft.returncode == 3, reported
    assert "SFT was stopped before a step; it continues" in reported
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in torchrun)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_torchrun_is_started_leaves_no_torchrun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    run = prepare(tmp_path / "run", samples(tmp_path / "data"))
    started = []

    class StartedAndStopped(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self)
            os.kill(os.getpid(), number)

    monkeypatch.setattr(subprocess, "Popen", StartedAndStopped)
    with pytest.raises(Stopped, match="before a step; it continues"):
        launch.run(run)
    assert [process.returncode for process in started] == [-signal.SIGTERM]


@pytest.mark.parametrize("nodes", [None, "2"])
def test_torchrun_s_store_holds_no_pickles(nodes: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its dynamic rendezvous (c10d, --standalone) unpickles what lies in a store that everybody may write to."""
    from torch.distributed.run import config_from_args, parse_args

    monkeypatch.delenv("PET_NNODES", raising=False)
    for name, value in {
        "PET_NNODES": nodes,
        "PET_MASTER_ADDR": "node-0",
        "PET_MASTER_PORT": "23456",
        "PET_NODE_RANK": "1",
    }.items():
        if nodes is not None and value is not None:
            monkeypatch.setenv(name, value)
    command = launch._command(2, "/runs/a", None)
    config, _, arguments = config_from_args(parse_args(command[command.index("torch.distributed.run") + 1 :]))  # type: ignore[no-untyped-call]
    assert config.rdzv_backend == "static"
    assert config.rdzv_endpoint.startswith("127.0.0.1:" if nodes is None else "node-0:23456")
    assert arguments[-1] == "/runs/a"


def test_a_torchrun_that_waits_for_a_lost_node_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ranks have stopped and said so; it would stay for five minutes, with the GPUs."""
    reported = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "open(os.environ['VISIONR1_EXIT_FILE'], 'w').write('3 SFT stopped after step 4'); time.sleep(600)"
    )
    monkeypatch.setattr(launch, "_command", lambda *_: [sys.executable, "-c", reported])
    monkeypatch.setattr(launch, "_BARRIER_SECONDS", 1.0)
    begun = time.monotonic()
    with pytest.raises(Stopped, match="after step 4"):
        launch.run(prepare(tmp_path / "run", samples(tmp_path / "data")))
    assert time.monotonic() - begun < 60
