"""What both kinds of store promise, and what the local one does with a difficult file system."""

import errno
import os
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from visionr1.errors import BadInput
from visionr1.storage import NotFound, StorageError, Store, open_store
from visionr1.storage.s3 import S3Store
from visionr1.storage.store import explain, open_regular, os_errors


def test_bytes_come_back_and_are_replaced_as_a_whole(store: Store) -> None:
    store.write_bytes("eval/sft.json", b"a long first version")
    store.write_bytes("eval/sft.json", b"second")
    assert store.read_bytes("eval/sft.json") == b"second"
    assert store.exists("eval/sft.json") and not store.exists("eval/sft") and not store.exists("eval")


def test_of_many_that_create_a_key_one_does(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(lambda n: store.create_bytes("epochs/1.json", b"%d" % n), range(8)))
    assert created.count(True) == 1
    assert store.read_bytes("epochs/1.json") == b"%d" % created.index(True)
    assert not store.create_bytes("epochs/1.json", b"later") and store.list() == ["epochs/1.json"]
    store.delete("epochs/1.json")
    assert store.create_bytes("epochs/1.json", b"later")


def test_a_key_is_replaced_only_if_it_still_is_what_was_read(store: Store) -> None:
    assert store.replace_bytes("steps.jsonl", b"one", None) and not store.replace_bytes("steps.jsonl", b"two", None)
    assert not store.replace_bytes("steps.jsonl", b"three", b"two") and store.read_bytes("steps.jsonl") == b"one"
    assert store.replace_bytes("steps.jsonl", b"two", b"one") and store.read_bytes("steps.jsonl") == b"two"


def test_s3_replaces_nothing_that_was_written_after_it_was_read(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = open_store(s3_url)
    assert isinstance(slow, S3Store) and slow.create_bytes("steps.jsonl", b"one")
    put = slow.client.put_object

    def late(**request: Any) -> Any:
        open_store(s3_url).write_bytes("steps.jsonl", b"two")
        return put(**request)

    monkeypatch.setattr(slow.client, "put_object", late)
    assert not slow.replace_bytes("steps.jsonl", b"late", b"one") and slow.read_bytes("steps.jsonl") == b"two"


def test_s3_creates_a_key_although_another_is_creating_it(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 answers 409 then, and the client does not try again by itself."""
    store = open_store(s3_url)
    assert isinstance(store, S3Store)
    put, conflicts = store.client.put_object, [1, 1]

    def conflicting(**request: Any) -> Any:
        if conflicts:
            conflicts.pop()
            raise ClientError({"Error": {"Code": "ConditionalRequestConflict", "Message": "try again"}}, "PutObject")
        return put(**request)

    monkeypatch.setattr(store.client, "put_object", conflicting)
    assert store.create_bytes("epochs/1.json", b"mine") and not store.create_bytes("epochs/1.json", b"other")


def test_a_folder_that_two_delete_at_once_is_gone(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "run"))
    for _ in range(20):
        for number in range(50):
            (tmp_path / f"run/step-1/{number}").mkdir(parents=True)
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(store.delete, ["step-1"] * 4)) == [None] * 4
        assert os.listdir(tmp_path / "run") == []


def test_a_folder_in_which_another_process_writes_is_deleted(tmp_path: Path) -> None:
    store, done = open_store(str(tmp_path / "run")), threading.Event()

    def write() -> None:
        for number in count():
            with suppress(FileNotFoundError):
                (tmp_path / f"run/step-1/{number}").write_text("x")
            if done.is_set():
                return

    for _ in range(20):
        (tmp_path / "run/step-1").mkdir(parents=True)
        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(write)
            time.sleep(0.01)
            store.delete("step-1")
            done.set()
            writing.result()
        done.clear()
        assert store.list() == []


def test_a_file_system_without_hard_links_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "link", refused)
    with pytest.raises(BadInput, match=r"epochs/1.json: this file system makes no hard links, .*; choose a run directory"):
        open_store(str(tmp_path)).create_bytes("epochs/1.json", b"")


def test_no_more_is_read_than_was_asked_for(store: Store) -> None:
    store.write_bytes("steps.jsonl", b"x" * 5_000_000)
    assert store.read_bytes("steps.jsonl", 3) == b"xxx"
    assert len(store.read_bytes("steps.jsonl", 6_000_000)) == len(store.read_bytes("steps.jsonl")) == 5_000_000


def test_a_version_differs_once_a_key_was_written_again(store: Store) -> None:
    store.write_bytes("data/a", b"one")
    store.write_bytes("data/ab", b"one")
    before = store.versions()
    assert list(before) == ["data/a", "data/ab"] and before["data/a"] == store.version("data/a") == store.version("data/a")
    store.write_bytes("data/a", b"two")
    assert store.version("data/a") != before["data/a"] and store.version("data/ab") == before["data/ab"]
    assert store.version("data") is None and store.version("data/b") is None


def test_files_come_back(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(os.urandom(100_000))
    moved: list[int] = []
    store.put_file(source, "phases/sft/attempt-0/log.txt", moved.append)
    store.get_file("phases/sft/attempt-0/log.txt", tmp_path / "new" / "copy.bin", moved.append)
    assert (tmp_path / "new" / "copy.bin").read_bytes() == source.read_bytes()
    assert sum(moved) == 200_000
    assert os.listdir(tmp_path / "new") == ["copy.bin"]


def test_a_prefix_is_a_folder(store: Store) -> None:
    for key in ("checkpoints/sft/step-1/a", "checkpoints/sft/step-10/b", "checkpoints/sft/step-1/c/d", "top"):
        store.write_bytes(key, b"12345")
    assert store.list("checkpoints/sft/step-1") == ["checkpoints/sft/step-1/a", "checkpoints/sft/step-1/c/d"]
    assert store.sizes("checkpoints/sft/step-10") == {"checkpoints/sft/step-10/b": 5}
    assert store.list() == sorted(store.list()) and len(store.list()) == 4
    assert store.list("nothing/here") == []
    store.delete("checkpoints/sft/step-1")
    store.delete("top")
    store.delete("nothing/here")
    assert store.list() == ["checkpoints/sft/step-10/b"]


def test_a_missing_key_is_not_found(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"steps\.jsonl: not found$"):
        store.read_bytes("steps.jsonl")
    with pytest.raises(NotFound):
        store.get_file("steps.jsonl", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("key", ["", "/etc/passwd", "..", "a/../../b", "a//b", "./a", "a/", "a\\b", "a\nb", "a/.."])
def test_no_key_leaves_the_store(store: Store, tmp_path: Path, key: str) -> None:
    calls = (store.read_bytes, store.exists, store.delete, store.local_path, lambda k: store.write_bytes(k, b""))
    for call in (*calls, lambda k: store.put_file(tmp_path, k), lambda k: store.get_file(k, tmp_path / "x")):
        with pytest.raises(BadInput, match="not a name inside a run directory"):
            call(key)


def test_a_symbolic_link_out_of_the_run_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    store = open_store(str(tmp_path / "run"))
    store.write_bytes("inside", b"fine")
    (tmp_path / "run" / "link").symlink_to(tmp_path / "outside")
    for call in (store.read_bytes, store.delete, store.list, lambda key: store.write_bytes(key, b"")):
        with pytest.raises(BadInput, match="symbolic link"):
            call("link/secret")
    assert store.list() == ["inside"]
    assert (tmp_path / "outside" / "secret").read_text() == "secret"


def test_a_link_to_itself_is_an_error_for_people(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "run"))
    store.write_bytes("inside", b"fine")
    (tmp_path / "run" / "loop").symlink_to("loop")
    for call in (store.read_bytes, lambda key: store.write_bytes(key, b"")):
        with pytest.raises((BadInput, StorageError), match="loop"):
            call("loop/key")


def test_a_run_directory_may_itself_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "big-disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "big-disk")
    store = open_store(str(tmp_path / "run"))
    store.write_bytes("a/b", b"x")
    assert store.list() == ["a/b"]
    assert (tmp_path / "big-disk" / "a" / "b").read_bytes() == b"x"


def test_a_write_that_fails_leaves_the_old_bytes_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(str(tmp_path / "run"))
    store.write_bytes("steps.jsonl", b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"steps\.jsonl: the disk is full; free some space"):
        store.write_bytes("steps.jsonl", b"new")
    assert store.read_bytes("steps.jsonl") == b"old"
    assert os.listdir(tmp_path / "run") == ["steps.jsonl"]


def test_a_reader_sees_one_version_or_the_other(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "run"))
    versions = {b"a" * 3_000_000, b"b" * 3_000_000}
    store.write_bytes("summary.json", min(versions))
    seen = set()

    def write() -> None:
        for data in sorted(versions) * 15:
            store.write_bytes("summary.json", data)

    with ThreadPoolExecutor() as pool:
        writing = pool.submit(write)
        while not writing.done():
            seen.add(store.read_bytes("summary.json"))
    assert seen <= versions


def test_what_is_removed_while_it_is_listed_is_no_error(tmp_path: Path) -> None:
    """A report of a run that works, or a runner that looks, lists folders that the run deletes."""
    store = open_store(str(tmp_path))

    def make_and_remove() -> None:
        for _ in range(40):
            for name in "abcdefgh":
                store.write_bytes(f"checkpoints/step-{name}/file", b"x")
            store.delete("checkpoints")

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(make_and_remove)
        while not writing.done():
            store.list("checkpoints")
        writing.result()
    assert store.list("checkpoints") == []


def test_half_written_files_are_not_listed(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    store.write_bytes("a", b"")
    (tmp_path / ".tmp-0123").write_bytes(b"left by a crash")
    assert store.list() == ["a"]


def test_a_place_where_nobody_may_write_is_one_line() -> None:
    with pytest.raises(StorageError, match=r"^/sys/visionr1-test[^\n]*choose another run directory$"):
        open_store("/sys/visionr1-test/run").write_bytes("recipe.yaml", b"")


def test_a_file_in_place_of_the_directory_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(BadInput, match="in each other's place"):
        open_store(str(tmp_path / "run")).write_bytes("recipe.yaml", b"")


def test_an_unreadable_directory_is_never_taken_for_an_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(str(tmp_path))
    store.write_bytes("checkpoints/sft/step-1/manifest.json", b"")

    def refuse(_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(StorageError, match="no permission"):
        store.list("checkpoints")


@pytest.mark.parametrize(
    ("number", "kind", "advice"),
    [
        (errno.EDQUOT, StorageError, "free some space"),
        (errno.EROFS, StorageError, "mount it writable"),
        (errno.EPERM, StorageError, "give user"),
        (errno.EIO, StorageError, "check the disk or mount"),
        (errno.ENOENT, NotFound, "not found"),
    ],
)
def test_each_disk_error_says_what_to_do(number: int, kind: type[Exception], advice: str) -> None:
    error = explain(OSError(number, os.strerror(number)), Path("/data/run"))
    assert type(error) is kind
    assert str(error).startswith("/data/run: ") and advice in str(error) and "\n" not in str(error)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "name is empty"),
        ("gs://bucket/run", "gs:// cannot hold a run"),
        ("s3://", "give s3://bucket/prefix"),
        ("s3:///run", "give s3://bucket/prefix"),
        ("s3://bucket/a/../b", "not a name inside a run directory"),
        ("s3://bucket/run?versionId=1", "give s3://bucket/prefix"),
    ],
)
def test_an_address_that_is_none_is_bad_input(url: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        open_store(url)


def test_credentials_in_an_address_are_refused_and_not_repeated() -> None:
    with pytest.raises(BadInput) as caught:
        open_store("s3://key:hunter2@bucket/run")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFSOCK])
def test_a_pipe_or_socket_in_the_place_of_a_file_makes_nobody_wait(kind: int, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "run"))
    store.write_bytes("steps.jsonl", b"{}")
    os.mknod(tmp_path / "run" / "odd", kind | 0o600)
    with pytest.raises(BadInput, match="odd: not a regular file but a pipe, socket or device; remove it$"):
        store.read_bytes("odd")
    with pytest.raises(BadInput, match="not a regular file"):
        store.get_file("odd", tmp_path / "copy")
    with pytest.raises(BadInput, match="not a regular file"), os_errors(tmp_path / "run" / "odd"):
        open_regular(tmp_path / "run" / "odd", flags=os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    assert not store.exists("odd")
    assert store.list() == ["steps.jsonl"]


def test_a_file_that_was_replaced_by_a_link_since_it_was_checked_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "steps.jsonl").symlink_to(tmp_path / "secret")
    with pytest.raises(BadInput, match="a symbolic link leads out of the run directory"):
        open_regular(tmp_path / "run" / "steps.jsonl", within=tmp_path / "run")


def test_a_folder_with_more_files_than_any_run_has_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        store.write_bytes(f"checkpoints/sft/step-{number}/manifest.json", b"")
    for module in ("store", "s3"):
        monkeypatch.setattr(f"visionr1.storage.{module}.MOST_FILES", 5)
    with pytest.raises(BadInput, match="more than 5 files, which no run writes"):
        store.list("checkpoints")
    assert len(store.list("checkpoints/sft/step-1")) == 1
