"""The operator's log: its own lines at the level that is asked for, and no keys that a library would write."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from ptst_operator.logs import LEVELS, set_up

OURS = ("ptst_operator", "visionr1")


@pytest.fixture(autouse=True)
def loggers_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before, handlers = root.level, root.handlers[:]
    yield
    root.handlers[:] = handlers
    root.setLevel(before)
    for name in OURS:
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.mark.parametrize("level", LEVELS)
def test_our_lines_have_the_level_that_is_asked_for(level: str, capsys: pytest.CaptureFixture[str]) -> None:
    set_up(level, "text")
    for name in (*OURS, "ptst_operator.leader"):
        for other in LEVELS:
            logging.getLogger(name).log(getattr(logging, other.upper()), "%s of %s", other, name)
        written = [line.split()[-3] for line in capsys.readouterr().err.splitlines()]
        assert written == list(LEVELS[LEVELS.index(level) :])


@pytest.mark.parametrize("library", ["botocore.auth", "botocore.parsers", "boto3", "urllib3.connectionpool", "leaderelection"])
def test_a_library_writes_no_keys_at_any_level(library: str, capsys: pytest.CaptureFixture[str]) -> None:
    set_up("debug", "json")
    logging.getLogger(library).debug("x-amz-security-token:secret")
    logging.getLogger(library).info("Found credentials in environment variables.")
    assert capsys.readouterr().err == ""
    logging.getLogger(library).warning("the connection was closed")
    assert "the connection was closed" in capsys.readouterr().err
