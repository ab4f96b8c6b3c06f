"""Saving and reading through a proxy that does what S3 does on a bad day; the proxy's faults are in tests/s3_proxy.py."""

import os
import random
import shutil

import pytest
from boto3.s3.transfer import TransferConfig
from s3_proxy import KINDS, Fault

from visionr1.storage import Checkpoints, StorageError, open_store, s3

MIB = 1 << 20
SMALL = {"model.safetensors": b"weights" * 1000, "trainer/rank-0.safetensors": b"moments" * 50, "config.json": b"{}"}
LARGE = SMALL | {"model.safetensors": os.urandom(11 * MIB)}
"""Weights that go in three parts."""


@pytest.fixture(autouse=True)
def _parts(monkeypatch):
    monkeypatch.setattr(s3, "TRANSFER", TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB))


def save(checkpoints, step, files):
    folder = checkpoints.staging(step)
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    entries = checkpoints.publish(step, folder, files)
    checkpoints.clear(step)
    checkpoints.upload(step, entries)
    checkpoints.commit(step, entries, {"step": step})


def read(url, step, tmp_path):
    """The checkpoint as a new machine sees it."""
    shutil.rmtree(tmp_path / "scratch", ignore_errors=True)
    (tmp_path / "scratch").mkdir()
    folder = Checkpoints(open_store(url), "sft").fetch(step)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def named(value):
    return f"{value.kind}-{value.method}-{value.key}-{value.times}" if isinstance(value, Fault) else ""


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (Fault("latency", key="model"), None),
        (Fault("500", key="model"), None),
        (Fault("500", key="model", times=99), "answered InternalError: .*; try again later"),
        (Fault("500", key="manifest", times=99), "answered InternalError: .*; try again later"),
        (Fault("503", key="partNumber=2"), None),
        (Fault("503", key="partNumber=2", times=99), "answered SlowDown: .*; try again later"),
        (Fault("503", method="POST", key="uploads", times=99), "answered SlowDown: .*; try again later"),
        (Fault("reset", key="partNumber=2"), None),
        (Fault("reset", key="partNumber=2", times=99), "cannot reach http://.*; check AWS_ENDPOINT_URL_S3"),
        (Fault("lost answer", key="model"), None),
        (Fault("lost answer", key="manifest"), None),
        (Fault("truncated", key="trainer"), "175 of 350 bytes arrived; save it again"),
        (Fault("truncated", key="partNumber=2"), "of 11534336 bytes arrived; save it again"),
        (Fault("damaged", key="trainer"), "damaged on their way; try again"),
        (Fault("damaged", key="partNumber=2"), "damaged on their way; try again"),
        (Fault("wrong ETag", key="trainer"), None),
        (Fault("wrong ETag", key="partNumber=1"), "answered InvalidPart: .*; try again later"),
        (Fault("expired", key="partNumber=3"), "the credentials have expired; renew them"),
        (Fault("expired", key="manifest"), "the credentials have expired; renew them"),
        (Fault("expired", method="GET", key="list-type"), "the credentials have expired; renew them"),
        (Fault("skewed", key="model"), "clock is too far from the server's; set it right"),
    ],
    ids=named,
)
def test_a_fault_while_saving_is_ridden_out_or_told_in_one_line(proxy, s3_url, tmp_path, fault, line):
    checkpoints = Checkpoints(open_store(s3_url), "sft")
    save(checkpoints, 5, SMALL)
    proxy.faults.append(fault)
    if line is None:
        save(checkpoints, 10, LARGE)
    else:
        with pytest.raises(StorageError, match=line) as caught:
            save(checkpoints, 10, LARGE)
        assert str(caught.value).startswith(s3_url) and "\n" not in str(caught.value)
    proxy.faults.clear()
    assert Checkpoints(open_store(s3_url), "sft").steps() == ([5, 10] if line is None else [5])
    assert read(s3_url, 5, tmp_path) == SMALL
    save(checkpoints, 10, LARGE)
    assert read(s3_url, 10, tmp_path) == LARGE


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (Fault("latency", "GET", "model"), None),
        (Fault("500", "GET", "model"), None),
        (Fault("503", "GET", "manifest", 99), r"manifest\.json: .* answered SlowDown"),
        (Fault("reset", "GET", "model"), None),
        (Fault("reset", "GET", "manifest"), r"manifest\.json: "),
        (Fault("truncated", "GET", "model"), None),
        (Fault("truncated", "GET", "trainer"), None),
        (Fault("truncated", "GET", "manifest", 99), r"manifest\.json"),
        (Fault("damaged", "GET", "trainer"), None),
        (Fault("damaged", "GET", "model", 99), r"model\.safetensors"),
        (Fault("wrong ETag", "GET", "model"), None),
        (Fault("expired", "GET", "trainer"), "the credentials have expired; renew them"),
        (Fault("skewed", "GET", "manifest"), "clock is too far from the server's; set it right"),
    ],
    ids=named,
)
def test_a_fault_while_reading_never_gives_torn_files(proxy, s3_url, tmp_path, fault, line):
    save(Checkpoints(open_store(s3_url), "sft"), 5, LARGE)
    proxy.faults.append(fault)
    if line is None:
        assert read(s3_url, 5, tmp_path) == LARGE
    else:
        with pytest.raises(StorageError, match=line) as caught:
            read(s3_url, 5, tmp_path)
        assert str(caught.value).startswith(s3_url) and "\n" not in str(caught.value)
    proxy.faults.clear()
    assert read(s3_url, 5, tmp_path) == LARGE


@pytest.mark.parametrize("seed", range(24))
def test_what_latest_names_is_whole_under_any_faults(proxy, s3_url, tmp_path, monkeypatch, seed):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    chance = random.Random(seed)
    kinds = [kind for kind in KINDS if kind != "latency"]
    places = ("model", "trainer", "manifest", "list-type", "delete", "uploads")
    tried, safe = {}, 0
    for step in range(1, 6):
        checkpoints = Checkpoints(open_store(s3_url), "sft")
        proxy.faults = [
            Fault(chance.choice(kinds), chance.choice(("PUT", "GET", "POST")), chance.choice(places))
            for _ in range(chance.randint(0, 4))
        ]
        tried[step] = {name: chance.randbytes(chance.randint(1, 3000)) for name in SMALL}
        try:
            save(checkpoints, step, tried[step])
            safe = step
            checkpoints.retain({step})
        except StorageError as error:
            assert str(error).startswith(s3_url) and "\n" not in str(error)
        proxy.faults = []
        latest = Checkpoints(open_store(s3_url), "sft").latest() or 0
        assert latest >= safe, "what was committed stays; a commit whose answer was lost may be there as well"
        if latest:
            assert read(s3_url, latest, tmp_path) == tried[latest]
            safe = latest
