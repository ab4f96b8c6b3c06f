"""Attempts that do not know of each other, in one run directory: only the newest one changes it."""

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest
from late_writers import LAST, PHASE, record, save
from small_run import RECIPE, small_run

from visionr1.data.coldstart.reply import Reply
from visionr1.data.coldstart.work import WorkLog
from visionr1.errors import BadInput, Fenced, Stopped
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.epoch import newest_epoch, take_epoch
from visionr1.rundir.layout import epoch_key
from visionr1.rundir.rollback import Rollback, roll_back
from visionr1.rundir.scores import Scores
from visionr1.rundir.steplog import StepLog, read_steps
from visionr1.rundir.takeover import take_over, taking_over
from visionr1.storage import Store, open_store


def test_epochs_count_up_and_two_never_have_one(store: Store) -> None:
    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(lambda _: take_epoch(store, PHASE).epoch, range(8)))
    assert sorted(taken) == list(range(1, 9)) and newest_epoch(store) == 8


@pytest.mark.timeout(30)
@pytest.mark.parametrize("what", ["pipe", "folder", "dangling link"])
def test_something_else_in_the_place_of_the_next_epoch_is_named(what: str, tmp_path: Path) -> None:
    """It is in no listing, and keeps the next record from being made: without a word, an attempt would try for ever."""
    store = open_store(str(tmp_path))
    take_epoch(store, PHASE)
    place = tmp_path / epoch_key(2)
    match what:
        case "pipe":
            os.mkfifo(place)
        case "folder":
            place.mkdir()
        case _:
            place.symlink_to("nothing")
    with pytest.raises(BadInput, match=r"epochs/2.json: not the record of an epoch; when nothing is at work in the run, delete"):
        take_epoch(store, PHASE)


@pytest.mark.timeout(30)
def test_a_number_far_ahead_is_named_and_not_counted_up_to(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    save(Checkpoints(take_epoch(store, PHASE), PHASE), 2)
    store.write_bytes(epoch_key(999_999_998), store.read_bytes(epoch_key(1)))
    with pytest.raises(BadInput, match=r"epochs/\d+.json: missing, though there are later ones; when nothing is at work"):
        take_over(store, PHASE)
    take_epoch(store, PHASE)
    with pytest.raises(BadInput, match=r"epochs/1000000000.json: not the record of an epoch"):
        take_epoch(store, PHASE)


def ask_once(store: Store) -> None:
    work = WorkLog(store)
    work.add("request", "row", "describe", Reply("text", "", "stop"))
    work.flush(at_once=True)


CHANGES: dict[str, Callable[[Store], object]] = {
    "commit": lambda store: Checkpoints(store, PHASE).commit(1, [], {}),
    "files": lambda store: Checkpoints(store, PHASE).staging(1),
    "deletion": lambda store: Checkpoints(store, PHASE).remove(2),
    "record": lambda store: StepLog(store, PHASE, 2).append(record(3)),
    "rollouts": lambda store: store.write_bytes("rollouts/stage-1/step-1.jsonl.zst", b""),
    "score": lambda store: Scores(store, "{}").write("sft", 1, {}, []),
    "reply": lambda store: ask_once(store),
    "data": lambda store: store.put_file(Path(__file__), "coldstart/data.jsonl"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_an_attempt_that_was_taken_over_changes_nothing(store: Store, change: Callable[[Store], object]) -> None:
    first = take_over(store, PHASE)
    log = StepLog(first, PHASE, 0)
    for step in (1, 2):
        log.append(record(step))
    save(Checkpoints(first, PHASE), 2)
    take_over(store, "evaluate")
    before = store.versions()
    with pytest.raises(Fenced, match=r"process \d+ on .+ took this run over at 20.+, for evaluate; this attempt ends$"):
        change(first)
    assert store.versions() == before


def test_what_another_attempt_caused_is_no_mistake_of_the_user(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    for error in (BadInput("steps.jsonl: damaged"), RuntimeError("a worker failed")):
        with pytest.raises(type(error)), taking_over(store, PHASE):
            raise error
        with pytest.raises(Fenced), taking_over(store, PHASE):
            take_over(store, PHASE)
            raise error
    with pytest.raises(Stopped), taking_over(store, PHASE):
        take_over(store, PHASE)
        raise Stopped("its step is committed")


def test_the_first_attempt_after_a_rollback_starts_where_that_ended(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    small_run(store)
    held = take_over(store, "stage-2")
    roll_back(store, RECIPE, Rollback("stage-1", 2), "x")
    with pytest.raises(Fenced):
        save(Checkpoints(held, "stage-2"), 4)
    assert Checkpoints(take_over(store, "stage-1"), "stage-1").steps() == [2]


@pytest.mark.parametrize("text", [b"", b"[]", b'{"phase": 1}', b"\xff"])
def test_a_damaged_record_ends_the_attempt_before_and_is_named_by_the_next(tmp_path: Path, text: bytes) -> None:
    store = open_store(str(tmp_path))
    first = take_over(store, PHASE)
    save(Checkpoints(first, PHASE), 2)
    store.write_bytes(epoch_key(2), text)
    with pytest.raises(Fenced, match=r"another attempt took this run over; this attempt ends$"):
        first.check()
    with pytest.raises(BadInput, match=r"epochs/2.json: not the record of an epoch; .*delete the folder epochs$"):
        take_over(store, PHASE)


def test_a_later_version_s_record_is_understood(store: Store) -> None:
    first = take_over(store, PHASE)
    save(Checkpoints(first, PHASE), 2)
    record = json.loads(store.read_bytes(epoch_key(1)))
    store.write_bytes(epoch_key(2), json.dumps(record | {"step": 2, "version": "9"}).encode())
    with pytest.raises(Fenced, match=r"process \d+ on .+ took this run over"):
        first.check()
    assert Checkpoints(take_over(store, PHASE), PHASE).steps() == [2]


def test_an_attempt_whose_record_is_gone_writes_nothing(store: Store) -> None:
    """Otherwise the next one would begin with a number that is smaller than this one's."""
    for _ in range(3):
        held = take_over(store, PHASE)
    store.delete("epochs")
    save(Checkpoints(take_over(store, PHASE), PHASE), 2)
    with pytest.raises(Fenced, match=r"epochs/3.json: the record of this attempt is gone"):
        save(Checkpoints(held, PHASE), 2, "late")
    assert Checkpoints(store, PHASE).epoch(2) == 1


def test_what_an_interrupted_save_has_left_is_gone_when_the_next_attempt_begins(store: Store) -> None:
    first = Checkpoints(take_over(store, PHASE), PHASE)
    (first.staging(2) / "model.safetensors").write_text("half of i")
    second = Checkpoints(take_over(store, PHASE), PHASE)
    assert not first._staged(2).exists()
    (second.folder(2) / "model.safetensors").write_text("newer")
    first.clear_left()
    assert (second.folder(2) / "model.safetensors").exists(), "an older attempt removes nothing of a newer one"


def test_a_server_that_ignores_the_condition_is_refused(s3_url: str) -> None:
    store = open_store(s3_url)
    create = store.client.put_object  # type: ignore[attr-defined]
    store.client.put_object = lambda **request: create(**{k: v for k, v in request.items() if k != "IfNoneMatch"})  # type: ignore[attr-defined]
    with pytest.raises(BadInput, match="two attempts could write; use one that keeps to If-None-Match"):
        take_over(store, PHASE)


class Driver:
    """A driver step by step: whoever has a turn does one call."""

    def __init__(self, store: Store) -> None:
        self.store = take_over(store, PHASE)
        self.checkpoints = Checkpoints(self.store, PHASE)
        self.step = self.checkpoints.latest() or 0
        self.log = StepLog(self.store, PHASE, self.step)

    def turn(self) -> bool:
        """Whether it is done."""
        self.step += 1
        self.log.append(record(self.step))
        if self.step % 2 == 0:
            save(self.checkpoints, self.step)
        return self.step == LAST


@pytest.mark.parametrize("seed", range(8))
def test_drivers_side_by_side_end_with_one_series_of_steps(tmp_path: Path, seed: int) -> None:
    random, store = Random(seed), open_store(str(tmp_path))
    drivers, begun, done = [Driver(store)], 1, False
    while not done:
        if random.random() < 0.2 and begun < 6 or not drivers:
            drivers.append(Driver(store))
            begun += 1
            continue
        driver = random.choice(drivers)
        try:
            done = driver.turn()
        except Fenced:
            drivers.remove(driver)
    assert [one["step"] for one in read_steps(store)] == list(range(1, LAST + 1))
    assert Checkpoints(store, PHASE).steps() == [LAST - 2, LAST]
    assert json.loads(store.read_bytes(epoch_key(begun)))["phase"] == PHASE
