"""Attempts that do not know of each other, in one run directory: only the newest one changes it."""

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest
from small_run import RECIPE, small_run

from visionr1.data.coldstart.reply import Reply
from visionr1.data.coldstart.work import WorkLog
from visionr1.engine.saving import Saving
from visionr1.errors import BadInput, Fenced, Stopped
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.epoch import FencedStore, newest_epoch, take_epoch
from visionr1.rundir.layout import epoch_key
from visionr1.rundir.rollback import Rollback, roll_back
from visionr1.rundir.scores import Scores
from visionr1.rundir.steplog import StepLog, read_steps
from visionr1.rundir.takeover import take_over, taking_over
from visionr1.storage import Store, open_store

PHASE = "stage-1"
LAST = 12


def save(checkpoints: Checkpoints, step: int, text: str = "weights") -> None:
    """A checkpoint as a driver commits it."""
    folder = checkpoints.staging(step)
    checkpoints.clear(step)
    (folder / "model.safetensors").write_text(f"{text} {step}")
    entries = checkpoints.publish(step, folder, ["model.safetensors"])
    checkpoints.upload(step, entries)
    saving = Saving(checkpoints, lambda *_: None, lambda steps: steps[-2:], lambda *_: None)
    saving.commit(step, [entries], {}, wait=True)


def record(step: int) -> dict[str, object]:
    return {"phase": PHASE, "stage": 1, "step": step, "loss": 1 / step}


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


def late(store: Store, epoch: int) -> Store:
    """A writer that has looked before the take-over, and writes after it."""

    class Late(FencedStore):
        def check(self) -> None:
            pass

    return Late(store, epoch)


def test_a_commit_that_comes_too_late_goes_with_the_next_commit(store: Store) -> None:
    first = take_over(store, PHASE)
    save(Checkpoints(first, PHASE), 2)
    second = take_over(store, PHASE)
    save(Checkpoints(late(store, first.epoch), PHASE), 4)
    save(Checkpoints(second, PHASE), 3)
    assert Checkpoints(store, PHASE).folders() == [2, 3]


def test_a_commit_that_comes_too_late_is_not_where_the_next_attempt_starts(store: Store) -> None:
    first = take_over(store, PHASE)
    save(Checkpoints(first, PHASE), 2)
    take_over(store, PHASE)
    save(Checkpoints(late(store, first.epoch), PHASE), 4)
    take_over(store, "evaluate")
    assert Checkpoints(take_over(store, PHASE), PHASE).folders() == [2]


def test_a_commit_that_comes_too_late_replaces_none(store: Store) -> None:
    first = take_over(store, PHASE)
    checkpoints = Checkpoints(late(store, first.epoch), PHASE)
    folder = checkpoints.staging(2)
    (folder / "model.safetensors").write_text("weights 2")
    entries = checkpoints.publish(2, folder, ["model.safetensors"])
    save(Checkpoints(take_over(store, PHASE), PHASE), 2)
    with pytest.raises(Fenced, match="a newer attempt has committed this step"):
        checkpoints.commit(2, entries, {})
    assert Checkpoints(store, PHASE).epoch(2) == 2


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


class Stalled:
    """The store as a process has it that hangs once, just before an operation; meanwhile `others` are at work."""

    def __init__(self, store: Store, operation: str, key: str, others: Callable[[], object]) -> None:
        self._store, self._operation, self._key, self._others = store, operation, key, [others]

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._store, name)
        if name != self._operation:
            return real

        def operation(key: str, *rest: Any) -> Any:
            if self._key in key and self._others:
                self._others.pop()()
            return real(key, *rest)

        return operation


def stalled(store: Store, operation: str, key: str, others: Callable[[], object]) -> Store:
    return cast(Store, Stalled(store, operation, key, others))


def trained(store: Store, first: int, last: int) -> None:
    """Another attempt trains and commits these steps."""
    checkpoints = Checkpoints(take_over(store, PHASE), PHASE)
    for step in range(first, last + 1):
        save(checkpoints, step)


def test_an_attempt_that_hangs_at_its_start_deletes_nothing_of_the_one_after_it(store: Store) -> None:
    trained(store, 1, 2)
    late_starter = stalled(store, "create_bytes", "epochs/", lambda: trained(store, 3, LAST))
    fenced = take_over(late_starter, PHASE)
    assert fenced.epoch == 3 and Checkpoints(store, PHASE).steps() == [LAST - 1, LAST]
    assert json.loads(store.read_bytes(epoch_key(3)))["step"] == LAST


@pytest.mark.parametrize("operation", ["replace_bytes", "delete"])
def test_an_attempt_that_hangs_after_its_first_look_deletes_nothing(store: Store, operation: str) -> None:
    trained(store, 1, 2)
    Checkpoints(store, PHASE).staging(9)
    place = "epochs/" if operation == "replace_bytes" else "step-9"
    store.write_bytes(f"checkpoints/{PHASE}/step-9/left", b"")
    with pytest.raises(Fenced):
        take_over(stalled(store, operation, place, lambda: trained(store, 3, LAST)), PHASE).check()
    trained(store, LAST + 1, LAST + 1)
    assert Checkpoints(store, PHASE).steps() == [LAST, LAST + 1]


def test_a_note_that_comes_too_late_outdates_nothing(store: Store) -> None:
    """Stage 2 was trained from a checkpoint that the one who hangs has not seen."""
    first = take_over(store, PHASE)
    save(Checkpoints(first, PHASE), 1)

    def others() -> None:
        save(Checkpoints(late(store, first.epoch), PHASE), 2)
        save(Checkpoints(take_over(store, "stage-2"), "stage-2"), 3)

    with pytest.raises(Fenced):
        take_over(stalled(store, "replace_bytes", "epochs/", others), PHASE)
    assert (Checkpoints(store, PHASE).latest(), Checkpoints(store, "stage-2").latest()) == (2, 3)
    assert Checkpoints(take_over(store, PHASE), PHASE).steps() == [1, 2]


def test_a_rollback_that_hangs_takes_nothing_back_from_a_run_that_has_gone_on(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    small_run(store)

    def others() -> None:
        take_over(store, "stage-2")

    with pytest.raises(Fenced):
        roll_back(stalled(store, "replace_bytes", "epochs/", others), RECIPE, Rollback("stage-1", 2), "x")
    assert Checkpoints(store, "stage-2").latest() is not None
    assert Checkpoints(take_over(store, "stage-2"), "stage-2").latest() is not None


def test_what_others_may_have_seen_before_the_note_counts(store: Store) -> None:
    first = take_over(store, PHASE)
    save(Checkpoints(first, PHASE), 2)
    until_noted = stalled(store, "replace_bytes", "epochs/", lambda: save(Checkpoints(late(store, first.epoch), PHASE), 4))
    second = take_over(until_noted, PHASE)
    assert Checkpoints(second, PHASE).steps() == [2, 4] and json.loads(store.read_bytes(epoch_key(2)))["step"] == 4


def test_what_an_interrupted_save_has_left_is_gone_when_the_next_attempt_begins(store: Store) -> None:
    first = Checkpoints(take_over(store, PHASE), PHASE)
    (first.staging(2) / "model.safetensors").write_text("half of i")
    second = Checkpoints(take_over(store, PHASE), PHASE)
    assert not first._staged(2).exists()
    (second.folder(2) / "model.safetensors").write_text("newer")
    first.clear_left()
    assert (second.folder(2) / "model.safetensors").exists(), "an older attempt removes nothing of a newer one"


def test_what_the_attempt_before_commits_until_it_is_taken_over_counts(store: Store) -> None:
    first = Checkpoints(take_over(store, PHASE), PHASE)
    save(first, 2)
    second = take_over(stalled(store, "create_bytes", "epochs/", lambda: save(first, 3)), PHASE)
    assert Checkpoints(second, PHASE).steps() == [2, 3]


def test_a_late_commit_of_the_last_step_does_not_complete_the_phase(store: Store) -> None:
    first = take_over(store, PHASE)
    save(Checkpoints(first, PHASE), 2)
    take_over(store, PHASE)
    save(Checkpoints(late(store, first.epoch), PHASE), LAST)
    assert Checkpoints(store, PHASE).latest() == 2, "before anybody has removed it"


def test_a_late_commit_of_a_phase_that_was_rolled_back_does_not_count(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    small_run(store)
    held = take_over(store, "stage-2")
    roll_back(store, RECIPE, Rollback("stage-1", 2), "x")
    save(Checkpoints(late(store, held.epoch), "stage-2"), 4)
    save(Checkpoints(take_over(store, "stage-1"), "stage-1"), 3)
    assert Checkpoints(store, "stage-2").latest() is None
    assert Checkpoints(take_over(store, "stage-2"), "stage-2").folders() == []


def test_a_record_that_comes_too_late_replaces_none(store: Store) -> None:
    """Even when nobody is at work any more, who would write the log once more."""
    log = StepLog(late(store, take_over(store, PHASE).epoch), PHASE, 0)
    log.append(record(1))

    def others() -> None:
        newer = StepLog(take_over(store, PHASE), PHASE, 1)
        for step in (2, 3):
            newer.append(record(step))

    class HangsAfterItsLook(FencedStore):
        def check(self) -> None:
            super().check()
            if newer.pop(0):
                others()

    newer = [True]
    log._store = HangsAfterItsLook(store, 1)
    with suppress(Fenced):
        log.append(record(2) | {"loss": 7.0})
    assert [one["loss"] for one in read_steps(store)] == [1 / 1, 1 / 2, 1 / 3]


def test_files_of_an_older_attempt_never_mix_with_those_of_a_newer_one(store: Store) -> None:
    first = Checkpoints(take_over(store, PHASE), PHASE)
    save(first, 2)
    folder = first.staging(4)
    save(Checkpoints(take_over(store, PHASE), PHASE), 4, "newer")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_text("older, and only a part of i")
    with pytest.raises(Fenced):
        first.staging(4)
    fetched = Checkpoints(store, PHASE).fetch(4)
    assert (fetched / "model.safetensors").read_text() == "newer 4"


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
