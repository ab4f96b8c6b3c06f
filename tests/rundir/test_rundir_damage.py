"""Each file of a run directory, damaged in many ways: every reader works, or says in a line which file it is."""

import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from small_run import RECIPE, small_run

from visionr1.data.coldstart.load import load_coldstart
from visionr1.data.coldstart.run import run_coldstart
from visionr1.data.coldstart.work import WorkLog
from visionr1.errors import BadInput
from visionr1.evaluate.phase import _scored_step
from visionr1.pipeline.local import run_local
from visionr1.pipeline.planner import Retry
from visionr1.recipe import phases
from visionr1.recipe.reads import evaluation_settings
from visionr1.report import terminal_summary, write_report
from visionr1.rundir import scores
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.committed import committed
from visionr1.rundir.recipe import adopt_recipe, read_recipe
from visionr1.rundir.rollback import Rollback, is_rolled_back, refusal, roll_back
from visionr1.rundir.scores import Scores
from visionr1.rundir.steplog import StepLog
from visionr1.storage import StorageError, Store, open_store
from visionr1.watch.look import look
from visionr1.watch.screen import frame

FILES = {
    "recipe": "recipe.yaml",
    "steps": "steps.jsonl",
    "attempt": "phases/sft/attempt-0/attempt.json",
    "progress": "phases/evaluate/attempt-0/progress.json",
    "manifest of SFT": "checkpoints/sft/step-3/manifest.json",
    "manifest of a stage": "checkpoints/stage-2/step-4/manifest.json",
    "score": "eval/sft.json",
    "last score": "eval/stage-2.json",
    "samples": "eval/sft.samples.jsonl",
    "evaluation's values": "eval/settings.json",
    "cold-start report": "coldstart/report.json",
    "cold-start manifest": "coldstart/manifest.json",
    "cold-start replies": "coldstart/work/replies.jsonl",
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    small_run(open_store(str(folder)))
    (part,) = (folder / "coldstart/work").iterdir()
    part.rename(folder / FILES["cold-start replies"])
    return folder


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Store:
    shutil.copytree(whole, tmp_path / "run")
    return open_store(str(tmp_path / "run"))


def never(_: object) -> list[bool]:
    raise AssertionError("nothing is compared in a run that has its data")


def watch(store: Store) -> None:
    Console(file=StringIO()).print(frame(look(store, 2000.0)))


def evaluation(store: Store) -> None:
    for phase in ("sft", "stage-1", "stage-2", "base"):
        _scored_step(Scores(store, evaluation_settings(RECIPE)), phase)


def plan(store: Store) -> None:
    for phase in phases(read_recipe(store)):
        committed(store, phase)


def fetch(store: Store) -> None:
    for phase in ("sft", "stage-1", "stage-2"):
        checkpoints = Checkpoints(store, phase)
        latest = checkpoints.latest()
        if latest is not None:
            checkpoints.state(latest)
            checkpoints.fetch(latest)


def coldstart(store: Store) -> None:
    if store.exists(FILES["cold-start manifest"]):
        run_coldstart(RECIPE, store, never, lambda: False)
        load_coldstart(store)


def rollback(store: Store) -> None:
    to = Rollback("stage-1", 2)
    refusal(store, RECIPE, to, "stage-2")
    if not is_rolled_back(store, RECIPE, to):
        roll_back(store, RECIPE, to, "x")


def local_run(store: Store) -> None:
    """What `visionr1 run --run DIR` does; no phase gets far."""
    recipe, retry = read_recipe(store), Retry(max_attempts=1)
    run_local(recipe, store.url, command_for=lambda *_: ["false"], retry=retry, console=Console(file=StringIO()))


READERS: list[Callable[[Store], object]] = [
    watch,
    write_report,
    terminal_summary,
    plan,
    evaluation,
    fetch,
    coldstart,
    WorkLog,
    lambda store: adopt_recipe(store, RECIPE),
]
WRITERS: list[Callable[[Store], object]] = [lambda store: StepLog(store, "stage-2", 3), local_run, rollback]


def faults(store: Store, readers: list[Callable[[Store], object]]) -> Iterator[str]:
    """What each reader says that does not get through; any other exception fails the test."""
    for read in readers:
        try:
            read(store)
        except (BadInput, StorageError) as error:
            yield str(error)


def expect_named(store: Store, key: str, readers: list[Callable[[Store], object]]) -> list[str]:
    reported = list(faults(store, readers))
    name = Path(key).name
    for message in reported:
        assert all(name in line for line in message.splitlines()), message
    return reported


def test_a_whole_run_has_no_fault(store: Store) -> None:
    assert list(faults(store, READERS + WRITERS)) == []


DAMAGE = {
    "empty": b"",
    "cut": b"{",
    "null": b"null",
    "list": b"[]",
    "no fields": b"{}",
    "lines without fields": b"{}\n{}\n",
    "number": b"7\n7\n",
    "text": b'"x"\n"x"\n',
    "not text": b"\xff\xfe\x00\x80\n\x00",
    "deep": b"[" * 100_000 + b"\n",
    "long number": b"1" * 5000 + b"\n1",
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("file", FILES)
def test_other_bytes(file: str, damage: str, store: Store) -> None:
    store.write_bytes(FILES[file], DAMAGE[damage])
    expect_named(store, FILES[file], READERS + WRITERS)


def directory(path: Path, outside: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "x").write_text("{}")


def link_out(path: Path, outside: Path) -> None:
    outside.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(outside)


def link_to_itself(path: Path, outside: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def huge(path: Path, outside: Path) -> None:
    os.truncate(path, 1 << 40)


def gone(path: Path, outside: Path) -> None:
    path.unlink()


def pipe(path: Path, outside: Path) -> None:
    """Opening one waits until somebody opens its other end."""
    path.unlink()
    os.mkfifo(path)


def unix_socket(path: Path, outside: Path) -> None:
    path.unlink()
    os.mknod(path, stat.S_IFSOCK | 0o600)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("place", [directory, link_out, link_to_itself, huge, gone, pipe, unix_socket])
@pytest.mark.parametrize("file", FILES)
def test_something_else_in_its_place(
    file: str, place: Callable[[Path, Path], None], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scores, "_MOST_BYTES", 1 << 20)
    monkeypatch.setattr("visionr1.data.coldstart.work._MOST_BYTES", 1 << 20)
    path = store.local_path(FILES[file])
    assert path is not None
    place(path, tmp_path / "outside")
    expect_named(store, FILES[file], READERS + WRITERS)


ODD = ["x", -1, 10**400, float("nan"), 1e300, [1], {"x": "y"}, True, None]


# An odd value of the evaluation is only another value: its scores are then those of another evaluation.
@pytest.mark.parametrize("file", [name for name in FILES if name not in ("recipe", "evaluation's values")])
def test_odd_values_in_each_field(file: str, store: Store) -> None:
    """The last line keeps its sound values: of a step log it may be cut short."""
    lines = store.read_bytes(FILES[file]).decode()
    one_value = file not in ("steps", "samples", "cold-start replies")
    whole = [json.loads(lines)] if one_value else [json.loads(line) for line in lines.splitlines()]
    reported = 0
    for field in whole[0]:
        for value in ODD:
            odd = [whole[0] | {field: value}, *whole[1:]]
            store.write_bytes(FILES[file], "\n".join(map(json.dumps, odd)).encode())
            reported += len(expect_named(store, FILES[file], READERS))
    assert reported, "some reader looks at the file"


SAMPLER = {"seed": 1, "epoch": 0, "index": 4, "fingerprint": "rows=6"}


@pytest.mark.parametrize("field", [None, *SAMPLER])
def test_odd_places_in_the_data(field: str | None, store: Store) -> None:
    checkpoints = Checkpoints(store, "stage-2")
    key = FILES["manifest of a stage"]
    manifest = json.loads(store.read_bytes(key))
    store.write_bytes(key, json.dumps(manifest | {"state": {"sampler": SAMPLER}}).encode())
    assert checkpoints.training_state(4) == {"sampler": SAMPLER}
    for value in [[1], {"x": "y"}, None, 1.5]:
        state = {"sampler": value if field is None else SAMPLER | {field: value}}
        store.write_bytes(key, json.dumps(manifest | {"state": state}).encode())
        with pytest.raises(BadInput, match=r"stage-2/step-4/manifest\.json: this is no checkpoint manifest; delete it"):
            checkpoints.training_state(4)


@pytest.mark.parametrize("value", ODD)
def test_odd_parts_of_a_step_s_figures(value: object, store: Store) -> None:
    lines = [json.loads(line) for line in store.read_bytes(FILES["steps"]).splitlines()]
    odd = [line | {"step_seconds": {"rollout": value, "checkpoint": value}} for line in lines]
    store.write_bytes(FILES["steps"], "".join(json.dumps(line) + "\n" for line in odd).encode())
    expect_named(store, FILES["steps"], READERS + WRITERS)
