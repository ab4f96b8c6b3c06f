"""A real S3 server, and both kinds of store."""

import pytest
from s3_server import proxy, s3_endpoint, s3_environment, s3_url  # noqa: F401

from visionr1.storage import open_store


@pytest.fixture(params=["local", "s3"])
def store(request, tmp_path):
    if request.param == "s3":
        return open_store(request.getfixturevalue("s3_url"))
    return open_store(str(tmp_path / "run"))
