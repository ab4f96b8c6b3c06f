"""A cold start whose run directory is on a real S3 server that goes away, or that another attempt takes over.

VISIONR1_AWAY_SECONDS sets for how long it is away.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fake_teacher import Answer, FakeTeacher, helpful, write_problems
from s3_proxy import Fault, Proxy
from s3_server import proxy, s3_endpoint, s3_environment, s3_url  # noqa: F401

from visionr1.data.coldstart import work
from visionr1.data.coldstart.reply import Reply
from visionr1.data.coldstart.run import run_coldstart
from visionr1.errors import Fenced
from visionr1.recipe.schema import Recipe
from visionr1.rundir.coldstart import ColdStartReport, committed_samples
from visionr1.rundir.layout import COLDSTART_MANIFEST
from visionr1.rundir.takeover import taking_over
from visionr1.storage import StorageError, Store, open_store

ROWS = 40
AWAY_SECONDS = float(os.environ.get("VISIONR1_AWAY_SECONDS", "3"))


def recipe(problems: Path, url: str, patience: float = 60.0) -> Recipe:
    teacher = {"base_url": url, "model": "m", "max_tokens": 100}
    coldstart = {
        "problems": {"path": str(problems)},
        "describer": teacher,
        "reasoner": teacher,
        "concurrency": 4,
        "patience_seconds": patience,
    }
    return Recipe.model_validate({"coldstart": coldstart, "sft": {}, "model": {"min_pixels": 784, "max_pixels": 78400}})


def run(recipe: Recipe, store: Store) -> ColdStartReport:
    return run_coldstart(recipe, store, lambda pairs: [given == truth for given, truth in pairs], lambda: False)


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "FLUSH_SECONDS", 0.2)
    monkeypatch.setattr(work, "_AGAIN_SECONDS", 0.1)


def test_replies_that_come_while_s3_is_away_are_kept_and_sent_later(
    proxy: Proxy,  # noqa: F811
    s3_url: str,  # noqa: F811
    teacher: FakeTeacher,
    tmp_path: Path,
    png: bytes,
    capsys: pytest.CaptureFixture[str],
) -> None:
    problems, store = write_problems(tmp_path / "many", png, ROWS), open_store(s3_url)
    teacher.delay = 0.02
    away = Fault("503", key="coldstart/work", times=10_000)
    proxy.faults.append(away)
    back = threading.Timer(AWAY_SECONDS, lambda: setattr(away, "times", 0))
    back.start()
    begun = time.monotonic()
    with taking_over(store, "coldstart") as taken:
        assert run(recipe(problems, teacher.url, AWAY_SECONDS + 60), taken).kept == ROWS
    assert time.monotonic() - begun >= AWAY_SECONDS
    assert capsys.readouterr().err.count("new replies stay on this machine, and the work goes on") == 1
    assert len(teacher.requests) == 3 * ROWS
    store.delete(COLDSTART_MANIFEST)
    with taking_over(store, "coldstart") as taken:
        again = run(recipe(problems, teacher.url), taken)
    assert (again.kept, again.asked, again.reused) == (ROWS, 0, 3 * ROWS)


def test_what_came_in_a_long_outage_is_sent_in_parts_that_are_not_too_large(
    proxy: Proxy,  # noqa: F811
    s3_url: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(work, "_PART_BYTES", 2_000)
    monkeypatch.setattr(work, "_MOST_BYTES", 4_000)
    away = Fault("503", key="coldstart/work", times=10_000)
    proxy.faults.append(away)
    store = open_store(s3_url)
    with closing(work.WorkLog(store, patience=60)) as log:
        for number in range(ROWS):
            log.add(hashlib.sha256(bytes([number])).hexdigest(), str(number), "describe", Reply("x" * 500, "", "stop"))
        asked = 10_000 - away.times
        away.times = 0
    assert asked < ROWS, "S3 is not asked at each reply while it is away"
    assert len(store.list("coldstart/work")) > 5
    with closing(work.WorkLog(store)) as again:
        assert len(again) == ROWS


def test_patience_with_s3_ends(
    proxy: Proxy,  # noqa: F811
    s3_url: str,  # noqa: F811
    teacher: FakeTeacher,
    tmp_path: Path,
    png: bytes,
) -> None:
    problems = write_problems(tmp_path / "many", png, ROWS)
    proxy.faults.append(Fault("503", key="coldstart/work", times=10_000))
    with pytest.raises(StorageError):
        run(recipe(problems, teacher.url, patience=0.5), open_store(s3_url))


def test_of_two_attempts_on_s3_the_first_ends_and_the_second_asks_only_for_the_rest(
    s3_url: str,  # noqa: F811
    teacher: FakeTeacher,
    tmp_path: Path,
    png: bytes,
) -> None:
    problems, store = write_problems(tmp_path / "many", png, ROWS), open_store(s3_url)
    ended: list[BaseException] = []

    def slowly(request: dict[str, Any]) -> Answer:
        time.sleep(0.1)
        return helpful(request)

    def first() -> None:
        try:
            with taking_over(store, "coldstart") as taken:
                run(recipe(problems, teacher.url), taken)
        except Fenced as error:
            ended.append(error)

    teacher.answer = slowly
    attempt = threading.Thread(target=first)
    attempt.start()
    deadline = time.monotonic() + 60
    while len(store.list("coldstart/work")) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    with taking_over(store, "coldstart") as taken:
        report = run(recipe(problems, teacher.url), taken)
    attempt.join()
    (fenced,) = ended
    assert "took this run over" in str(fenced) and "for coldstart" in str(fenced)
    assert (report.kept, committed_samples(store)) == (ROWS, ROWS)
    assert report.reused > 0 and report.asked + report.reused == 3 * ROWS
