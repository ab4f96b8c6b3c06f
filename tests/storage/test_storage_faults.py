"""Saving and reading through a proxy that does what S3 does on a bad day; the proxy's faults are in tests/s3_proxy.py."""

import os
import random
from collections.abc import Iterator
from contextlib import closing
from itertools import count

import pytest
from boto3.s3.transfer import TransferConfig
from s3_proxy import KINDS, Fault, Proxy
from s3_server import new_bucket

from visionr1.rundir.checkpoints import Checkpoints
from visionr1.storage import StorageError, Store, open_store, s3

MIB = 1 << 20
SMALL = {"model.safetensors": b"weights" * 1000, "trainer/rank-0.safetensors": b"moments" * 50, "config.json": b"{}"}
OTHER = {name: data[::-1] for name, data in SMALL.items()}
LARGE = SMALL | {"model.safetensors": os.urandom(5 * MIB + 100_000)}
"""Weights that go in two parts."""
NUMBERS = count()


@pytest.fixture(scope="module")
def bucket(s3_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Proxy]]:
    """A run's address in a bucket behind a proxy with faults; clients are slow to make, so that all tests share them."""
    with pytest.MonkeyPatch.context() as patch, closing(Proxy(s3_endpoint)) as proxy:
        url = new_bucket(s3_endpoint, patch, tmp_path_factory.mktemp("scratch"))
        patch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        patch.setattr(s3, "TRANSFER", TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB))
        yield url, proxy


@pytest.fixture(scope="module")
def store(bucket: tuple[str, Proxy]) -> Store:
    return open_store(bucket[0])


@pytest.fixture
def proxy(bucket: tuple[str, Proxy]) -> Iterator[Proxy]:
    yield bucket[1]
    bucket[1].faults.clear()


@pytest.fixture
def checkpoints(store: Store, proxy: Proxy) -> Checkpoints:
    return Checkpoints(store, f"phase-{next(NUMBERS)}")


def save(checkpoints: Checkpoints, step: int, files: dict[str, bytes]) -> None:
    folder = checkpoints.staging(step)
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    entries = checkpoints.publish(step, folder, files)
    checkpoints.clear(step)
    checkpoints.upload(step, entries)
    checkpoints.commit(step, entries, {"step": step})


def read(checkpoints: Checkpoints, step: int) -> dict[str, bytes]:
    """The checkpoint as a machine sees it that has no copy yet."""
    checkpoints.forget(step)
    folder = checkpoints.fetch(step)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def is_clear(error: Exception, checkpoints: Checkpoints) -> bool:
    return str(error).startswith(checkpoints.store.url) and "; " in str(error) and "\n" not in str(error)


def named(value: object) -> str:
    return f"{value.kind}-{value.method}-{value.key}-{value.times}" if isinstance(value, Fault) else ""


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (Fault("latency", key="model"), None),
        (Fault("500", key="model"), None),
        (Fault("500", key="manifest", times=99), "answered InternalError: .*; try again later"),
        (Fault("503", key="partNumber=2"), None),
        (Fault("503", key="partNumber=2", times=99), "answered SlowDown: .*; try again later"),
        (Fault("503", method="POST", key="uploads", times=99), "answered SlowDown: .*; try again later"),
        (Fault("reset", key="partNumber=1"), None),
        (Fault("reset", key="partNumber=1", times=99), "cannot reach http://.*; check AWS_ENDPOINT_URL_S3"),
        (Fault("lost answer", key="model"), None),
        (Fault("lost answer", key="manifest"), None),
        (Fault("truncated", key="trainer"), "175 of 350 bytes arrived; save it again"),
        (Fault("truncated", key="partNumber=2"), "5292880 of 5342880 bytes arrived; save it again"),
        (
            Fault("truncated", key="manifest"),
            r"manifest\.json: it was damaged on arrival and was removed; save the checkpoint again",
        ),
        (Fault("damaged", key="trainer"), "damaged on their way; try again"),
        (Fault("damaged", key="partNumber=2"), "damaged on their way; try again"),
        (Fault("wrong ETag", key="trainer"), None),
        (Fault("wrong ETag", key="partNumber=1"), "answered InvalidPart: .*; try again later"),
        (Fault("expired", key="partNumber=2"), "the credentials have expired; renew them"),
        (Fault("expired", key="manifest"), "the credentials have expired; renew them"),
        (Fault("expired", method="GET", key="list-type"), "the credentials have expired; renew them"),
        (Fault("skewed", key="model"), "clock is too far from the server's; set it right"),
    ],
    ids=named,
)
def test_a_fault_while_saving_is_ridden_out_or_told_in_one_line(
    checkpoints: Checkpoints, proxy: Proxy, fault: Fault, line: str | None
) -> None:
    files = LARGE if fault.key in ("partNumber=1", "partNumber=2", "uploads") else OTHER
    save(checkpoints, 5, SMALL)
    proxy.faults.append(fault)
    if line is None:
        save(checkpoints, 10, files)
    else:
        with pytest.raises(StorageError, match=line) as caught:
            save(checkpoints, 10, files)
        assert is_clear(caught.value, checkpoints)
    proxy.faults.clear()
    assert checkpoints.steps() == ([5, 10] if line is None else [5])
    assert read(checkpoints, 5) == SMALL
    save(checkpoints, 10, files)
    assert read(checkpoints, 10) == files


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (Fault("latency", "GET", "model"), None),
        (Fault("500", "GET", "model"), None),
        (Fault("503", "GET", "manifest", 99), r"manifest\.json: .* answered SlowDown"),
        (Fault("reset", "GET", "model"), None),
        (Fault("reset", "GET", "model", 99), r"model\.safetensors: "),
        (Fault("reset", "GET", "manifest"), r"manifest\.json: "),
        (Fault("truncated", "GET", "model"), None),
        (Fault("truncated", "GET", "trainer"), None),
        (Fault("truncated", "GET", "manifest"), r"manifest\.json: the bytes were damaged on their way"),
        (Fault("damaged", "GET", "trainer"), None),
        (Fault("damaged", "GET", "trainer", 99), r"trainer/rank-0\.safetensors: the bytes were damaged on their way"),
        (Fault("wrong ETag", "GET", "model"), None),
        (Fault("expired", "GET", "trainer"), "the credentials have expired; renew them"),
        (Fault("skewed", "GET", "manifest"), "clock is too far from the server's; set it right"),
    ],
    ids=named,
)
def test_a_fault_while_reading_never_gives_torn_files(
    checkpoints: Checkpoints, proxy: Proxy, fault: Fault, line: str | None
) -> None:
    files = LARGE if fault.key == "model" else SMALL
    save(checkpoints, 5, files)
    proxy.faults.append(fault)
    if line is None:
        assert read(checkpoints, 5) == files
    else:
        with pytest.raises(StorageError, match=line) as caught:
            read(checkpoints, 5)
        assert is_clear(caught.value, checkpoints)
    proxy.faults.clear()
    assert read(checkpoints, 5) == files


def test_what_latest_names_is_whole_under_any_faults(
    bucket: tuple[str, Proxy], proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty-four schedules of up to four faults a checkpoint, and no second tries."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    store = open_store(bucket[0])
    kinds = [kind for kind in KINDS if kind != "latency"]
    places = ("model", "trainer", "manifest", "list-type", "delete", "uploads")
    outcomes = []
    for seed in range(24):
        chance = random.Random(seed)
        checkpoints, tried, safe = Checkpoints(store, f"stage-{seed}"), {}, 0
        for step in range(1, 4):
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
                assert is_clear(error, checkpoints), f"seed {seed}, step {step}: {error}"
            outcomes.append(safe == step)
            proxy.faults = []
            latest = checkpoints.latest() or 0
            assert latest >= safe, f"seed {seed}, step {step}: what was committed stays"
            if latest:
                assert read(checkpoints, latest) == tried[latest], f"seed {seed}, step {step}"
            safe = latest  # a commit whose answer was lost may be there as well
    assert 10 < sum(outcomes) < 60, "some saves succeed and some fail"
