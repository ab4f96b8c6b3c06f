"""One run at a time in a local run directory, also after kills."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from visionr1.cli import app
from visionr1.errors import BadInput
from visionr1.rundir.lock import run_lock
from visionr1.storage import open_store

HOLDER = """
import subprocess, sys
from visionr1.rundir.lock import run_lock
from visionr1.storage import open_store
with run_lock(open_store(sys.argv[1])) as descriptor:
    child = None
    if sys.argv[2] == "with-child":
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=sys.stdin, pass_fds=[descriptor])
    print("locked", flush=True)
    sys.stdin.read() if child is None else child.wait()
"""


def hold(run: str, mode: str = "alone") -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, run, mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"locked\n"
    return process


def is_free(run: str) -> bool:
    try:
        with run_lock(open_store(run)):
            return True
    except BadInput:
        return False


def test_the_second_run_is_told_who_has_the_directory(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").write_text('{"pid": 1, "command": "' + "an earlier run " * 100 + '"}')
    with hold(run) as process:
        with pytest.raises(BadInput) as caught:
            run_lock(open_store(run)).__enter__()
        message = str(caught.value)
        assert f"{run} is in use by process {process.pid} on {socket.gethostname()} since 20" in message
        assert "alone" in message and "wait for it or stop it" in message and "\n" not in message
        process.communicate(b"")
    assert is_free(run)


def test_a_killed_run_leaves_no_lock(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    with hold(run) as process:
        process.send_signal(signal.SIGKILL)
    assert is_free(run)


def test_a_child_that_outlives_its_run_keeps_the_lock(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    with hold(run, "with-child") as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not is_free(run)
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"\n")
        process.stdin.close()
        process.stdout.read()  # ends with the child
    assert is_free(run)


def test_the_lock_file_is_no_link_to_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "victim").write_text("precious")
    os.symlink(tmp_path / "victim", tmp_path / "run" / ".lock")
    with pytest.raises(BadInput, match="symbolic link"):
        run_lock(open_store(str(tmp_path / "run"))).__enter__()
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_remote_run_needs_no_lock(s3_url: str) -> None:
    with run_lock(open_store(s3_url)) as descriptor:
        assert descriptor is None


def test_a_phase_that_is_started_alone_is_refused_beside_a_run(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    with hold(run) as process:
        for command in (["sft"], ["coldstart"], ["grpo", "--stage", "1"], ["eval"]):
            (tmp_path / "run/recipe.yaml").write_text("preset: demo\n")
            result = CliRunner().invoke(app, [*command, "--run", run])
            assert result.exit_code == 64 and f"in use by process {process.pid}" in result.output, command
        process.communicate(b"")


def test_a_pod_of_the_operator_does_not_wait_for_the_lock_of_an_older_pod(tmp_path: Path) -> None:
    """It would end with 64, which is final; an epoch ends the older one."""
    run = str(tmp_path / "run")
    with hold(run) as process:
        for command in (["sft"], ["coldstart"], ["grpo", "--stage", "1"], ["eval"]):
            result = CliRunner().invoke(app, [*command, "--run", run, "--recipe-sha256", "0" * 64])
            assert "in use" not in result.output and "0000.json" in result.output, command
        process.communicate(b"")


@pytest.mark.parametrize("text", [b"", b"[" * 100_000, b"[]", b'{"pid": "x"}', b"\xff"])
def test_a_lock_file_that_names_nobody_still_locks(text: bytes, tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    with hold(run) as process:
        (tmp_path / "run/.lock").write_bytes(text)
        with pytest.raises(BadInput, match="is in use; wait for it or stop it$"):
            run_lock(open_store(run)).__enter__()
        process.communicate(b"")


def test_a_phase_that_is_asked_for_a_run_that_is_not_there_makes_no_folder(tmp_path: Path) -> None:
    ended = CliRunner().invoke(app, ["sft", "--run", str(tmp_path / "nothing")])
    assert ended.exit_code == 64 and "there is no recipe.yaml, so this is not a run directory" in ended.output
    assert list(tmp_path.iterdir()) == []
