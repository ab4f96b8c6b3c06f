"""A user's reward file: what it gets, and the message when it is wrong."""

import hashlib
import os
import py_compile
import signal
import time
from pathlib import Path

import pytest

from visionr1.errors import BadInput
from visionr1.recipe.reward import Reward
from visionr1.reward import Grader

BATCH = """
REWARD_NAME = "length"
REWARD_TYPE = "batch"

def compute_score(reward_inputs):
    print("a message that must not disturb")
    return [
        {"overall": (row["response_length"] or 0) / 10, "format": 1, "accuracy": row["ground_truth"] in row["response"], "x": ""}
        for row in reward_inputs
    ]
"""
SEQUENTIAL = """
from helper import half
REWARD_TYPE = "sequential"

def compute_score(row):
    return {"overall": half(), "format": True, "accuracy": 0.0}
"""


def grader_of(folder: Path, text: str, seconds: float = 5.0) -> Grader:
    path = folder / "reward.py"
    path.write_text(text)
    return Grader(Reward(function=f"{path}:compute_score", seconds_per_answer=seconds))


def returning(value: str) -> str:
    return f"def compute_score(rows):\n    return {value}\n"


def test_a_batch_function_gets_response_length_and_truth(tmp_path: Path) -> None:
    with grader_of(tmp_path, BATCH) as grader:
        grades = grader.grade(["it is 8", "it is 7"], ["8", "8"], [20, 30])
        assert [(grade.overall, grade.format, grade.accuracy) for grade in grades] == [(2.0, 1.0, 1.0), (3.0, 1.0, 0.0)]
        assert grades[0].reason == "by length"
        assert grader.grade(["it is 8"], ["8"])[0].overall == 0.0
        assert grader.grade([], []) == []


def test_a_sequential_function_gets_one_row_and_may_import_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("def half():\n    return 0.5\n")
    with grader_of(tmp_path, SEQUENTIAL) as grader:
        assert [grade.overall for grade in grader.grade(["a", "b", "c"], ["a", "b", "c"])] == [0.5] * 3


def hashed(path: Path, of: str | None = None) -> Reward:
    text = path.read_text() if of is None else of
    return Reward(function=f"{path}:compute_score", sha256=hashlib.sha256(text.encode()).hexdigest())


def test_a_file_with_its_hash_is_loaded_and_imports_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "reward.py"
    path.write_text(BATCH)
    with Grader(hashed(path)) as grader:
        assert [grade.overall for grade in grader.grade(["it is 8"], ["8"], [20])] == [2.0]
    (tmp_path / "helper.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')\ndef half():\n    return 0.5\n")
    path.write_text(SEQUENTIAL)
    with pytest.raises(BadInput, match="No module named 'helper'"):
        Grader(hashed(path))
    assert not (tmp_path / "mark").exists()


def test_a_file_with_another_hash_is_not_run(tmp_path: Path) -> None:
    path, mark = tmp_path / "reward.py", tmp_path / "mark"
    path.write_text(f"open({str(mark)!r}, 'w')\n{BATCH}")
    with pytest.raises(BadInput, match=r"reward.py:compute_score: the file has the SHA-256 [0-9a-f]{64}, and reward.sha256 is"):
        Grader(hashed(path, BATCH))
    assert not mark.exists()


@pytest.mark.parametrize("known", [True, False])
def test_compiled_code_beside_the_file_is_not_run(known: bool, tmp_path: Path) -> None:
    """Python takes a .pyc if it has the time and the size of the file, and never looks whether it was made from it."""
    path, mark = tmp_path / "reward.py", tmp_path / "mark"
    path.write_text(f"open({str(mark)!r}, 'w')\n{BATCH}")
    planted = Path(str(py_compile.compile(str(path), doraise=True)))
    path.write_text(BATCH.ljust(path.stat().st_size))
    stamp = planted.read_bytes()[8:12]
    os.utime(path, (int.from_bytes(stamp, "little"),) * 2)
    settings = hashed(path)
    with Grader(settings if known else settings.model_copy(update={"sha256": None})) as grader:
        assert grader.grade(["it is 8"], ["8"], [20])[0].overall == 2.0
    assert not mark.exists()


def test_a_process_that_is_ended_is_replaced(tmp_path: Path) -> None:
    once = f"import os, signal\nfrom pathlib import Path\nhit = Path({str(tmp_path / 'hit')!r})\n"
    text = once + (
        "def compute_score(rows):\n"
        "    if len(rows) == 2 and not hit.exists():\n"
        "        hit.touch()\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return [dict(overall=1, format=1, accuracy=os.getpid()) for row in rows]\n"
    )
    with grader_of(tmp_path, text) as grader:
        first = grader.grade(["a"], ["a"])[0]
        assert first.overall == 1 and first.accuracy != os.getpid()
        os.kill(int(first.accuracy), signal.SIGTERM)  # as Ray does when it stops a driver
        assert (second := grader.grade(["a"], ["a"])[0]).accuracy != first.accuracy
        grades = grader.grade(["a", "b"], ["a", "b"])  # and while it grades
        assert [grade.overall for grade in grades] == [1, 1] and grades[0].accuracy != second.accuracy


def test_numpy_numbers_are_numbers(tmp_path: Path) -> None:
    text = "import numpy\n" + returning("[{k: numpy.float32(0.5) for k in ('overall', 'format', 'accuracy')} for _ in rows]")
    with grader_of(tmp_path, text) as grader:
        assert grader.grade(["a"], ["a"])[0].overall == 0.5


ALL = "{'overall': 1, 'format': 1, 'accuracy': 1}"
FAULTS = {
    "raises": ("def compute_score(rows):\n    x = 1\n    return 1 / 0\n", r"ZeroDivisionError: division by zero \(line 3\)"),
    "syntax": ("def compute_score(rows:\n", "SyntaxError"),
    "import": ("import a_module_that_is_not_there\n", "ModuleNotFoundError.*a_module_that_is_not_there"),
    "no function": ("def score(rows):\n    return []\n", "the file has no function compute_score"),
    "type": ("REWARD_TYPE = 'sometimes'\n" + returning("[]"), "REWARD_TYPE is 'sometimes', not 'batch' or 'sequential'"),
    "nothing": (returning("None"), "returned NoneType, not a list of 3 dicts"),
    "too few": (returning(f"[{ALL}]"), "returned 1 scores for 3 rows"),
    "no dict": (returning(f"[{ALL}, 0.5, {ALL}]"), "row 1: returned float, not a dict with overall, format, accuracy"),
    "key": (returning(f"[{ALL}, {ALL}, {{'overall': 1, 'format': 1}}]"), "row 2: no 'accuracy' in the returned dict"),
    "nan": (returning(f"[{ALL}, {ALL}, {{**{ALL}, 'overall': float('nan')}}]"), "row 2: 'overall' is nan, not a finite number"),
    "infinite": (returning(f"[{{**{ALL}, 'format': float('inf')}}] * 3"), "row 0: 'format' is inf"),
    "text": (returning(f"[{{**{ALL}, 'accuracy': '1'}}] * 3"), "row 0: 'accuracy' is '1', not a finite number"),
    "none": (returning(f"[{{**{ALL}, 'accuracy': None}}] * 3"), "row 0: 'accuracy' is None"),
    "exit": ("import os\ndef compute_score(rows):\n    os._exit(3)\n", "its process ended twice on rows 0 to 2"),
    "too many": (returning(f"[{ALL}] * 4"), "returned 4 scores for 3 rows"),
    "generator": (returning(f"({ALL} for _ in rows)"), "returned generator, not a list of 3 dicts"),
    "minus infinity": (returning(f"[{ALL}, {{**{ALL}, 'overall': -float('inf')}}, {ALL}]"), "row 1: 'overall' is -inf"),
    "too large": (returning(f"[{{**{ALL}, 'overall': 10**400}}] * 3"), "row 0: 'overall' is 1000.*000, not a finite number"),
    "complex": (returning(f"[{ALL}, {{**{ALL}, 'overall': 1j}}, {ALL}]"), "row 1: 'overall' is 1j, not a finite number"),
    "list": (returning(f"[{ALL}, {ALL}, {{**{ALL}, 'overall': [1.0]}}]"), r"row 2: 'overall' is \[1.0\], not a finite number"),
    "reads": ("def compute_score(rows):\n    return input()\n", r"row 0: EOFError: .*\(line 2\)"),
    "sys.exit": ("import sys\ndef compute_score(rows):\n    sys.exit('enough')\n", "its process ended twice on rows 0 to 2"),
    "recursion": ("def compute_score(rows):\n    return compute_score(rows)\n", "row 0: RecursionError"),
    "memory": ("def compute_score(rows):\n    return bytes(1 << 62)\n", "row 0: MemoryError"),
    "killed": ("import os\ndef compute_score(rows):\n    os.kill(os.getpid(), 9)\n", "its process ended twice on rows 0 to 2"),
    "one row": (
        "def compute_score(rows):\n    assert all(row['ground_truth'] != 'C' for row in rows), 'C is new to me'\n",
        r"row 1: AssertionError: C is new to me \(line 2\)",
    ),
    "all rows": (
        "def compute_score(rows):\n    assert len(rows) < 2, 'one at a time'\n    return []\n",
        r"rows 0 to 2: AssertionError: one at a time \(line 2\)",
    ),
    "exit at once": ("import os\nos._exit(3)\n", "its process ended while the file was loaded"),
}


@pytest.mark.parametrize(("text", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_a_broken_file_fails_before_the_first_update(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        grader_of(tmp_path, text)
    assert "reward.py:compute_score: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_breaks_later_is_named_with_the_row(tmp_path: Path) -> None:
    text = (
        "REWARD_TYPE = 'sequential'\n"
        "def compute_score(row):\n"
        "    return {'overall': {'bad': None}.get(row['response'], 1), 'format': 1, 'accuracy': 1}\n"
    )
    with grader_of(tmp_path, text) as grader, pytest.raises(BadInput, match="row 2: 'overall' is None"):
        grader.grade(["good", "good", "bad"], ["a", "b", "c"])


@pytest.mark.parametrize("kind", ["batch", "sequential"])
def test_a_function_that_hangs_is_killed_and_named(tmp_path: Path, kind: str) -> None:
    text = f"import time\nREWARD_TYPE = {kind!r}\ndef compute_score(rows):\n    time.sleep(600)\n"
    start = time.monotonic()
    with pytest.raises(BadInput, match=r"rows? 0.* took longer than .* \(reward.seconds_per_answer\)"):
        grader_of(tmp_path, text, seconds=0.1)
    assert time.monotonic() - start < 10


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no file .*nowhere.py"):
        Grader(Reward(function=f"{tmp_path}/nowhere.py:compute_score"))


@pytest.mark.parametrize("function", ["reward.py", "reward.py:", "reward.txt:f", ":f", "reward.py:f(x)", "HFRRF"])
def test_a_function_without_form_is_named(function: str) -> None:
    with pytest.raises(BadInput, match="is not hfrrf, zero or path/file.py:function"):
        Grader(Reward(function=function))


def test_what_a_file_prints_disturbs_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = (
        "import os, sys\nprint('loaded')\nos.write(1, b'[1, 2]\\n')\n"
        "def compute_score(rows):\n    print('{}')\n    os.system('echo from a shell')\n    sys.stdout.flush()\n"
        f"    return [{ALL}] * len(rows)\n"
    )
    with grader_of(tmp_path, text) as grader:
        assert [grade.overall for grade in grader.grade(["a", "b"], ["a", "b"])] == [1.0, 1.0]
    reported = capfd.readouterr()
    assert reported.out == ""
    assert {"loaded", "[1, 2]", "{}", "from a shell"} <= set(reported.err.splitlines())


@pytest.mark.parametrize("kind", ["batch", "sequential"])
def test_a_function_that_hangs_later_is_killed_and_named_with_its_rows(tmp_path: Path, kind: str) -> None:
    text = (
        f"import time\nREWARD_TYPE = {kind!r}\n"
        "def compute_score(given):\n"
        "    rows = given if isinstance(given, list) else [given]\n"
        "    time.sleep(600 * any(row['response'] == 'slow' for row in rows))\n"
        f"    scores = [{ALL}] * len(rows)\n"
        "    return scores if given is rows else scores[0]\n"
    )
    where = "rows 0 to 2" if kind == "batch" else "row 1"
    seconds = {"batch": 0.2, "sequential": 2.0}[kind]  # a batch has ten times as long
    with (
        grader_of(tmp_path, text, seconds=seconds) as grader,
        pytest.raises(BadInput, match=f"compute_score: {where} took longer"),
    ):
        grader.grade(["fast", "slow", "fast"], ["a", "b", "c"])
