"""Fixtures: a real S3 server, a run's address on it, and the proxy with faults before it."""

import re
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from s3_proxy import Proxy

from visionr1.storage import Store, open_store


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a moto server that lives as long as the tests."""
    log = tmp_path_factory.mktemp("moto") / "log.txt"
    with log.open("w") as output:
        server = subprocess.Popen([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"], stderr=output)
    try:
        deadline = time.monotonic() + 60
        while not (address := re.search(r"Running on (http://[\d.:]+)", log.read_text())):
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield address[1]
    finally:
        server.kill()
        server.wait()


def settle(endpoint: str, patch: pytest.MonkeyPatch, scratch: Path) -> None:
    """The environment of a user of that server, with TMPDIR in `scratch`."""
    for name, value in {
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "2",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }.items():
        patch.setenv(name, value)
    patch.setattr(tempfile, "tempdir", str(scratch))


def new_bucket(endpoint: str, patch: pytest.MonkeyPatch, scratch: Path) -> str:
    """A run's address in a bucket of its own."""
    settle(endpoint, patch, scratch)
    bucket = f"test-{uuid.uuid4().hex}"
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket=bucket)
    return f"s3://{bucket}/runs/demo"


@pytest.fixture
def s3_environment(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    settle(s3_endpoint, monkeypatch, tmp_path / "scratch")


@pytest.fixture
def s3_url(s3_environment: None, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    return new_bucket(s3_endpoint, monkeypatch, tmp_path / "scratch")


@pytest.fixture
def proxy(s3_url: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Between all clients of the test and the server; `s3_url` is a run there."""
    between = Proxy(s3_endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", between.url)
    yield between
    between.close()


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A run directory of either kind."""
    if request.param == "s3":
        return open_store(request.getfixturevalue("s3_url"))
    return open_store(str(tmp_path / "run"))
