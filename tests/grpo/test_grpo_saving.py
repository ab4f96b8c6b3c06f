"""Checkpoints of a stage go to a bucket while the next steps run, one at a time, and a failure is reported."""

import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from s3_proxy import Fault, Proxy

from visionr1.engine.saving import Parts, Saving
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.storage import StorageError, open_store

SECONDS = 60.0
"""Long enough for any machine; nothing waits for so long unless it hangs."""


class Stage:
    """Two workers' files through a real `Saving`."""

    def __init__(self, url: str, keep: Callable[[list[int]], Sequence[int]] = lambda steps: steps[-2:]) -> None:
        self.checkpoints = Checkpoints(open_store(url), "stage-1")
        self.reported: list[int] = []
        self.saving = Saving(self.checkpoints, self.upload, keep, lambda step, seconds: self.reported.append(step))

    def upload(self, step: int, parts: Parts) -> None:
        self.checkpoints.clear(step)
        for part in parts:
            self.checkpoints.upload(step, part)

    def save(self, step: int, *, wait: bool) -> None:
        self.saving.begin(step)
        parts = []
        for rank in range(2):
            folder = self.checkpoints.folder(step)
            (folder / f"rank-{rank}").write_bytes(bytes([step]) * 1000)
            parts.append(self.checkpoints.publish(step, folder, [f"rank-{rank}"]))
        self.saving.commit(step, parts, {"step": step}, wait=wait)

    def staged(self) -> set[str]:
        """Steps with files that wait on this machine."""
        return {path.parent.name for path in Path(tempfile.gettempdir()).rglob("staged/**/rank-*")}


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_steps_go_on_while_a_bucket_is_slow_and_one_checkpoint_waits_for_the_other(proxy: Proxy, s3_url: str) -> None:
    slow = threading.Event()
    proxy.held = lambda line: "step-2/rank-1" in line and not slow.is_set()
    stage = Stage(s3_url)
    stage.save(2, wait=False)
    until(lambda: any("step-2/rank-0" in line for line in proxy.seen))
    stage.saving.check()
    assert stage.checkpoints.latest() is None, "half of it is there"
    second = threading.Thread(target=stage.save, args=(4,), kwargs={"wait": True})
    second.start()
    second.join(0.5)
    assert second.is_alive(), "the machine holds one checkpoint at a time"
    assert not any("step-4" in line for line in proxy.seen)
    slow.set()
    second.join(SECONDS)
    assert stage.reported == stage.checkpoints.steps() == [2, 4]
    assert (stage.checkpoints.fetch(4) / "rank-1").read_bytes() == bytes([4]) * 1000
    assert stage.staged() == set()


def test_a_failed_upload_ends_the_phase_at_the_next_step(proxy: Proxy, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    stage = Stage(s3_url)
    stage.save(2, wait=True)
    proxy.faults = [Fault("503", key="rank-1", times=99)]
    stage.save(4, wait=False)

    def reported() -> bool:
        try:
            stage.saving.check()
        except StorageError as error:
            return "step-4/rank-1: http" in str(error) and "SlowDown" in str(error)
        return False

    until(reported)
    assert stage.reported == stage.checkpoints.steps() == [2]
    assert stage.staged() == {"step-4"}
    proxy.faults = []
    again = Stage(s3_url)
    again.save(6, wait=True)
    assert again.checkpoints.steps() == [2, 6]
    assert again.staged() == set(), "what the failed attempt left is gone"


@pytest.mark.parametrize("call", ["begin", "commit"])
def test_a_failed_commit_is_never_silent(proxy: Proxy, s3_url: str, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    stage = Stage(s3_url)
    proxy.faults = [Fault("expired", key="manifest", times=99)]
    with pytest.raises(StorageError, match=r"manifest\.json: the credentials have expired; renew them"):
        if call == "commit":
            stage.save(2, wait=True)
        else:
            stage.save(2, wait=False)
            stage.saving.begin(4)
    assert stage.checkpoints.latest() is None


def test_a_local_checkpoint_is_there_at_once(tmp_path: Path) -> None:
    stage = Stage(str(tmp_path))
    for step in (2, 4, 6):
        stage.save(step, wait=False)
        assert stage.checkpoints.latest() == step
    assert stage.checkpoints.steps() == stage.reported[1:] == [4, 6]
