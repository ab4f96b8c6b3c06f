"""An attempt that hangs: what it writes after another one has taken the run over changes nothing."""

import json
from contextlib import suppress
from pathlib import Path

import pytest
from late_writers import LAST, PHASE, late, record, save, stalled, trained
from small_run import RECIPE, small_run

from visionr1.errors import Fenced
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.epoch import FencedStore
from visionr1.rundir.layout import epoch_key
from visionr1.rundir.rollback import Rollback, roll_back
from visionr1.rundir.steplog import StepLog, read_steps
from visionr1.rundir.takeover import take_over
from visionr1.storage import Store, open_store


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
