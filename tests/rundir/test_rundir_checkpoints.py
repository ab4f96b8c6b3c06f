"""A checkpoint exists wholly or not at all, whatever happens and whenever."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from visionr1.errors import BadInput
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.copies import forget_copies
from visionr1.rundir.layout import MANIFEST, checkpoint_prefix
from visionr1.rundir.manifest import FileEntry
from visionr1.storage import NotFound, StorageError, Store, open_store

FILES = {"model.safetensors": b"weights" * 1000, "optimizer/rank-0.pt": b"moments", "config.json": b"{}"}


def save(checkpoints: Checkpoints, step: int, files: Mapping[str, bytes] = FILES, state: dict[str, Any] | None = None) -> int:
    folder = checkpoints.staging(step)
    return checkpoints.commit(step, publish(checkpoints, step, folder, files), state or {"step": step})


def publish(checkpoints: Checkpoints, step: int, folder: Path, files: Mapping[str, bytes]) -> list[FileEntry]:
    checkpoints.clear(step)
    return add(checkpoints, step, folder, files)


def add(checkpoints: Checkpoints, step: int, folder: Path, files: Mapping[str, bytes]) -> list[FileEntry]:
    """What each process does."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    entries = checkpoints.publish(step, folder, files)
    checkpoints.upload(step, entries)
    return entries


def contents(folder: Path, names: Iterable[str] = FILES) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names}


@pytest.fixture
def checkpoints(store: Store) -> Checkpoints:
    return Checkpoints(store, "stage-1")


def test_what_is_committed_comes_back(checkpoints: Checkpoints, store: Store) -> None:
    state = {"sampler": {"seed": 1, "index": 7}, "losses": [0.5]}
    assert save(checkpoints, 5, state=state) == sum(map(len, FILES.values()))
    save(checkpoints, 10)
    again = Checkpoints(open_store(store.url), "stage-1")
    assert (again.steps(), again.latest()) == ([5, 10], 10)
    assert again.state(5) == state
    assert contents(again.fetch(5)) == FILES
    assert Checkpoints(store, "stage-2").latest() is None


def test_nothing_reads_what_is_not_committed(checkpoints: Checkpoints) -> None:
    publish(checkpoints, 5, checkpoints.staging(5), FILES)
    assert checkpoints.steps() == []
    for read in (checkpoints.state, checkpoints.fetch):
        with pytest.raises(NotFound):
            read(5)


def test_two_broken_attempts_leave_nothing_behind(checkpoints: Checkpoints, store: Store) -> None:
    publish(checkpoints, 5, checkpoints.staging(5), {"first.bin": b"1", "model.safetensors": b"old"})
    publish(checkpoints, 5, checkpoints.staging(5), {"second.bin": b"2"})
    folder = checkpoints.staging(5)
    assert list(folder.iterdir()) == []
    checkpoints.commit(5, publish(checkpoints, 5, folder, FILES), {})
    prefix = checkpoint_prefix("stage-1", 5)
    assert store.list(prefix) == sorted(f"{prefix}/{name}" for name in (*FILES, MANIFEST))


def test_a_committed_step_that_is_saved_again_is_replaced(checkpoints: Checkpoints) -> None:
    save(checkpoints, 5, {"old.bin": b"old"})
    folder = checkpoints.staging(5)
    checkpoints.clear(5)
    assert checkpoints.latest() is None
    checkpoints.commit(5, publish(checkpoints, 5, folder, FILES), {})
    assert contents(checkpoints.fetch(5)) == FILES


def test_processes_write_their_own_files_and_one_commits(checkpoints: Checkpoints, store: Store) -> None:
    checkpoints.staging(5)
    entries = []
    for rank in range(3):
        mine = Checkpoints(open_store(store.url), "stage-1")
        entries += add(mine, 5, mine.folder(5), {f"rank-{rank}.pt": bytes([rank])})
    checkpoints.commit(5, entries, {})
    assert contents(checkpoints.fetch(5), ["rank-0.pt", "rank-2.pt"]) == {"rank-0.pt": b"\0", "rank-2.pt": b"\2"}


def test_a_published_file_must_be_there_and_be_published_once(checkpoints: Checkpoints) -> None:
    folder = checkpoints.staging(5)
    with pytest.raises(StorageError, match=r"model\.safetensors: cannot be published, because it was not written"):
        checkpoints.publish(5, folder, ["model.safetensors"])
    elsewhere = FileEntry(path="rank-7.pt", bytes=3, sha256="0" * 64)
    with pytest.raises(StorageError, match=r"rank-7\.pt: published, but missing; all nodes must share"):
        checkpoints.commit(5, [elsewhere], {})
    with pytest.raises(ValueError, match="two processes published the same file"):
        checkpoints.commit(5, [elsewhere, elsewhere], {})
    with pytest.raises(ValueError, match="what commits a checkpoint"):
        checkpoints.publish(5, folder, [MANIFEST])
    assert checkpoints.steps() == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:100] + b"X" + data[101:], "is damaged: its SHA-256 is not the manifest's"),
        (lambda data: data[:-1], "has 6999 bytes instead of 7000"),
        (None, "is missing"),
    ],
)
def test_a_damaged_file_is_found_and_named(
    checkpoints: Checkpoints, store: Store, damage: Callable[[bytes], bytes] | None, message: str
) -> None:
    save(checkpoints, 5)
    key = f"{checkpoint_prefix('stage-1', 5)}/model.safetensors"
    data = store.read_bytes(key)
    store.delete(key)
    if damage is not None:
        store.write_bytes(key, damage(data))
    with pytest.raises(StorageError, match=rf"step-5/model\.safetensors {message}; restore it, or delete manifest\.json"):
        checkpoints.fetch(5)


def test_without_the_trainer_only_weights_are_read(s3_url: str) -> None:
    checkpoints = Checkpoints(open_store(s3_url), "sft")
    entries = add(checkpoints, 5, checkpoints.staging(5), {"config.json": b"{}", "trainer/rank-0.safetensors": b"moments"})
    checkpoints.commit(5, entries, {})
    folder = checkpoints.fetch(5, trainer=False)
    assert [path.name for path in folder.iterdir()] == ["config.json"]
    assert (checkpoints.fetch(5) / "trainer/rank-0.safetensors").read_bytes() == b"moments"


def test_copies_of_other_checkpoints_are_forgotten(s3_url: str) -> None:
    store = open_store(s3_url)
    copies = {}
    for phase, step in [("sft", 5), ("stage-1", 5), ("stage-1", 10)]:
        checkpoints = Checkpoints(store, phase)
        save(checkpoints, step)
        copies[phase, step] = checkpoints.fetch(step)
    forget_copies(store, {("sft", 5), ("stage-1", 10)})
    assert [key for key, folder in copies.items() if folder.exists()] == [("sft", 5), ("stage-1", 10)]


@pytest.mark.parametrize("path", ["../../../../etc/passwd", "/etc/passwd"])
def test_a_forged_manifest_cannot_name_files_elsewhere(checkpoints: Checkpoints, store: Store, path: str) -> None:
    save(checkpoints, 5)
    key = f"{checkpoint_prefix('stage-1', 5)}/{MANIFEST}"
    store.write_bytes(key, store.read_bytes(key).replace(b"config.json", path.encode()))
    with pytest.raises(BadInput, match="not a name inside a run directory"):
        checkpoints.fetch(5)


def test_a_manifest_that_is_none_is_bad_input(checkpoints: Checkpoints, store: Store) -> None:
    store.write_bytes(f"{checkpoint_prefix('stage-1', 5)}/{MANIFEST}", b'{"files": "all"}')
    with pytest.raises(BadInput, match=r"step-5/manifest\.json: this is no checkpoint manifest; delete it"):
        checkpoints.fetch(5)


def test_retaining_deletes_the_rest_but_never_the_newest(checkpoints: Checkpoints, store: Store) -> None:
    for step in (5, 10, 15, 20):
        save(checkpoints, step)
    publish(checkpoints, 12, checkpoints.staging(12), FILES)
    publish(checkpoints, 25, checkpoints.staging(25), FILES)
    checkpoints.retain({10, 12})
    assert checkpoints.steps() == [10, 20]
    kept_folders = {key.split("/")[2] for key in store.list("checkpoints/stage-1")}
    being_written = contents(checkpoints.folder(25)) == FILES if checkpoints.local else "step-25" in kept_folders
    assert kept_folders - {"step-25"} == {"step-10", "step-20"} and being_written
    checkpoints.retain(set())
    assert checkpoints.steps() == [20]


class Crash(Exception):
    """Stands for a power cut."""


class Dying:
    """A store whose process dies at the `lives`-th change; a deletion of a folder is then cut short after one file."""

    def __init__(self, store: Store, lives: int) -> None:
        self._store, self._lives = store, lives

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def _live(self) -> bool:
        self._lives -= 1
        return self._lives >= 0

    def write_bytes(self, key: str, data: bytes) -> None:
        if not self._live():
            raise Crash
        self._store.write_bytes(key, data)

    def create_bytes(self, key: str, data: bytes) -> bool:
        if not self._live():
            raise Crash
        return self._store.create_bytes(key, data)

    def put_file(self, local: Path, key: str, moved: Callable[[int], object]) -> None:
        if not self._live():
            raise Crash
        self._store.put_file(local, key, moved)

    def delete(self, prefix: str) -> None:
        if not self._live():
            for key in self._store.list(prefix)[-1:]:
                self._store.delete(key)
            raise Crash
        self._store.delete(prefix)


def test_a_crash_at_any_moment_leaves_only_whole_checkpoints(store: Store) -> None:
    files = {"model.safetensors": b"weights", "rank-0.pt": b"moments"}
    crashed, lives = True, -1
    while crashed:
        lives += 1
        checkpoints = Checkpoints(store, f"stage-{lives}")
        save(checkpoints, 5, files)
        doomed = Checkpoints(cast(Store, Dying(store, lives)), checkpoints.phase)
        try:
            save(doomed, 10, files)
            save(doomed, 10, files)
            doomed.retain({10})
            crashed = False
        except Crash:
            crashed = True
        steps = checkpoints.steps()
        assert steps in ([5], [10], [5, 10])
        for step in steps:
            assert contents(checkpoints.fetch(step), files) == files
    assert lives >= 8
    assert steps == [10]


KILLED = """
import sys
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.storage import open_store
checkpoints = Checkpoints(open_store(sys.argv[1]), "sft")
folder = checkpoints.staging(5)
(folder / "model.safetensors").write_bytes(b"x" * 1_000_000)
checkpoints.publish(5, folder, ["model.safetensors"])
print("published", flush=True)
sys.stdin.read()
"""


def test_a_process_killed_before_its_commit_has_saved_nothing(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    with subprocess.Popen([sys.executable, "-c", KILLED, run], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"published\n"
        process.send_signal(signal.SIGKILL)
    checkpoints = Checkpoints(open_store(run), "sft")
    assert checkpoints.latest() is None
    save(checkpoints, 5)
    assert not (checkpoints.fetch(5) / "rank-0.pt").exists()


def test_a_remote_checkpoint_is_downloaded_once_and_mended_if_the_copy_is_damaged(
    s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(s3_url)
    checkpoints = Checkpoints(store, "sft")
    save(checkpoints, 5)
    folder = checkpoints.fetch(5)
    (folder / "config.json").write_bytes(b"[]")
    fetched = []
    get_file = store.get_file

    def noted(key: str, *rest: Any) -> None:
        fetched.append(key)
        get_file(key, *rest)

    monkeypatch.setattr(store, "get_file", noted)
    assert contents(checkpoints.fetch(5)) == FILES
    assert fetched == ["checkpoints/sft/step-5/config.json"]
    checkpoints.forget(5)
    assert not folder.exists()
    assert contents(checkpoints.fetch(5)) == FILES


def test_uploaded_files_do_not_stay_on_the_machine(s3_url: str) -> None:
    checkpoints = Checkpoints(open_store(s3_url), "sft")
    save(checkpoints, 5)
    assert not [path for path in checkpoints.folder(5).rglob("*") if path.is_file()]


def test_a_scratch_folder_that_another_user_made_is_refused(s3_url: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "scratch" / f"visionr1-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match="belongs to another user; set TMPDIR"):
        Checkpoints(open_store(s3_url), "sft").staging(5)


def test_a_symbolic_link_inside_a_local_checkpoint_is_refused(tmp_path: Path) -> None:
    checkpoints = Checkpoints(open_store(str(tmp_path / "run")), "sft")
    save(checkpoints, 5)
    (tmp_path / "outside").write_bytes(b"{}")
    config = checkpoints.fetch(5) / "config.json"
    config.unlink()
    config.symlink_to(tmp_path / "outside")
    with pytest.raises(BadInput, match="symbolic link"):
        checkpoints.fetch(5)
