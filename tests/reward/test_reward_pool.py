"""Grading survives hung, dying and hostile answers, from wherever it is called."""

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from visionr1.recipe.reward import Reward
from visionr1.reward import Grade, Grader
from visionr1.reward.answer import LONGEST

HUNG = "9^{9^{9^9}}"
EASY = "x+1"


def wrapped(answer: str) -> str:
    return f"<think>t</think><answer> Final Answer:{answer} </answer>"


def grade(grader: Grader, *rows: tuple[str, str]) -> list[Grade]:
    return grader.grade([wrapped(answer) for answer, _ in rows], [truth for _, truth in rows])


def benchmark(*words: str) -> dict[str, Any]:
    """The JSON that a program of `benchmarks/` prints."""
    program = Path(__file__).parents[2] / "benchmarks" / words[0]
    reported = subprocess.run([sys.executable, program, *words[1:]], capture_output=True, text=True, check=True, timeout=280)
    found: dict[str, Any] = json.loads(reported.stdout)
    return found


def pids_of(grader: Grader) -> list[int]:
    return [worker.child.pid for worker in grader._pool._workers]


@pytest.fixture(scope="module")
def small() -> Iterator[Grader]:
    with Grader(Reward(processes=2, seconds_per_answer=1)) as grader:
        grade(grader, (EASY, "1+x"), ("y+1", "1+y"))
        yield grader


def test_a_hung_answer_costs_its_limit_and_delays_no_other(small: Grader) -> None:
    others = [(f"x+{n}", f"{n}+x") for n in range(100)]
    before = small.timeouts
    start = time.monotonic()
    grades = grade(small, (HUNG, "5"), *others)
    assert time.monotonic() - start < 8
    assert (grades[0].overall, grades[0].reason) == (0.0, "timed out")
    assert all(grade.reason == "right" for grade in grades[1:])
    assert small.timeouts == before + 1


def test_the_pool_heals_when_every_process_hangs(small: Grader) -> None:
    before = small.timeouts
    grades = grade(small, *[(f"{n}^{{9^{{9^9}}}}", "5") for n in range(5, 9)], (EASY, "1+x"))
    assert [grade.reason for grade in grades] == ["timed out"] * 4 + ["right"]
    assert small.timeouts == before + 4
    assert grade(small, ("2x", "x+x"))[0].reason == "right"


@pytest.mark.parametrize(
    "answer",
    ["(" * 2000 + "1" + ")" * 2000, "\\frac{" * 300 + "1" + "}{2}" * 300, "\\sqrt{" * 39 + "2" + "}" * 39, "9" * 1_000_000,
     "x" + "+x" * 2000, "{" * 4000, "\\int" * 1000, "x^" * 1000 + "2", "1" + "/1" * 2000, "9!" + "!" * 50, "10^{10^{10}}",
     "\\sum_{n=1}^{10^{9}} n^{n}", "\x00\x01\ud800", "\\begin{pmatrix}" * 100],
    ids=lambda answer: repr(answer[:16]),
)  # fmt: skip
def test_hostile_answers_score_nothing_in_bounded_time(small: Grader, answer: str) -> None:
    start = time.monotonic()
    grades = grade(small, (answer, "5"), (EASY, "1+x"))
    assert time.monotonic() - start < 8
    assert [grade.overall for grade in grades] == [0.0, 1.0]


def test_an_answer_over_the_bound_never_reaches_a_process() -> None:
    with Grader(Reward()) as grader:
        assert grade(grader, ("1+" * LONGEST + "1", "5"))[0].reason == "wrong answer"
        assert pids_of(grader) == []


def test_what_the_spelling_decides_starts_no_process() -> None:
    with Grader(Reward()) as grader:
        rows = [
            ("5", "5"),
            ("B", "C"),
            ("72°", "72"),
            ("\\frac{1}{2}", "0.5"),
            ("3, 5", "5, 3"),
            ("red", "blue"),
            ("(1,2)", "(1,3)"),
        ]
        assert [grade.overall for grade in grade(grader, *rows)] == [1, 0, 1, 1, 1, 0, 0]
        assert pids_of(grader) == []


def test_the_pool_heals_when_a_process_is_killed(small: Grader) -> None:
    before = pids_of(small)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    grades = grade(small, *[(f"x+{n}", f"{n}+x") for n in range(20)])
    assert all(grade.overall == 1.0 for grade in grades)
    assert not set(before) & set(pids_of(small))


def test_an_answer_whose_process_is_killed_under_it_is_tried_again(small: Grader) -> None:
    def kill_all() -> None:
        for pid in pids_of(small):
            os.kill(pid, signal.SIGKILL)

    killer = threading.Timer(0.3, kill_all)
    killer.start()
    grades = grade(small, (HUNG, "5"), (EASY, "1+x"))
    killer.join()
    assert [grade.reason for grade in grades] == ["timed out", "right"]


def test_equal_rows_are_graded_once(small: Grader) -> None:
    before = small.timeouts
    grades = grade(small, *[(HUNG, "5")] * 64)
    assert {grade.reason for grade in grades} == {"timed out"}
    assert small.timeouts == before + 1


def test_grading_works_in_threads(small: Grader) -> None:
    seen: list[list[Grade]] = []
    threads = [threading.Thread(target=lambda n=n: seen.append(grade(small, (f"{n}x+1", f"1+{n}x")))) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [grades[0].overall for grades in seen] == [1.0] * 4


def _in_daemon(results: "multiprocessing.Queue[float]") -> None:
    with Grader(Reward(processes=1)) as grader:
        results.put(grade(grader, (EASY, "1+x"))[0].overall)


def test_grading_works_in_a_daemonic_process() -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=_in_daemon, args=(results,), daemon=True)
    process.start()
    assert results.get(timeout=60) == 1.0
    process.join(10)
    assert process.exitcode == 0


def _with_children(pids: list[int]) -> list[int]:
    return pids + [int(child) for pid in pids for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def _all_end(pids: list[int], within: float) -> bool:
    deadline = time.monotonic() + within
    while not all(map(_ended, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return all(map(_ended, pids))


def test_processes_die_with_their_parent_even_when_hung() -> None:
    program = (
        "import threading, time\n"
        "from visionr1.recipe.reward import Reward\n"
        "from visionr1.reward import Grader\n"
        "grader = Grader(Reward(processes=1, seconds_per_answer=2))\n"
        "r = lambda a: f'<think>t</think><answer>{a}</answer>'\n"
        "grader.grade([r('x+1')], ['1+x'])\n"
        f"threading.Thread(target=grader.grade, args=([r('{HUNG}')], ['5'])).start()\n"
        "time.sleep(0.3)\n"
        "print(*[worker.child.pid for worker in grader._pool._workers], flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = _with_children([int(pid) for pid in parent.stdout.readline().split()])
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert len(pids) == 2 and _all_end(pids, within=15)


def test_closing_is_prompt_and_leaves_no_process() -> None:
    grader = Grader(Reward(processes=1, seconds_per_answer=60))
    grade(grader, (EASY, "1+x"))
    pids = _with_children(pids_of(grader))
    start = time.monotonic()
    grader.close()
    assert len(pids) == 2 and _all_end(pids, within=2)
    assert time.monotonic() - start < 2


def test_a_batch_that_fails_leaves_nothing_to_the_next(small: Grader, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(small._pool, "_listen", interrupted)
        grade(small, (EASY, "2+x"))
    assert grade(small, ("z+1", "1+z"))[0].reason == "right"


def test_five_hundred_answers_take_seconds(small: Grader) -> None:
    forms = [
        ("{0}", "{0}"),
        ("{0}°", "{0}"),
        ("\\frac{{{0}}}{{7}}", "{0}/7"),
        ("{0}\\sqrt{{3}}", "{0}\\sqrt{{2}}"),
        ("{0}x+1", "1+{0}x"),
    ]
    rows = [(answer.format(n), truth.format(n)) for n in range(1, 101) for answer, truth in forms]
    start = time.monotonic()
    grades = grade(small, *rows)
    assert time.monotonic() - start < 15
    assert [grade.overall for grade in grades] == [1, 1, 1, 0, 1] * 100


# None equals 23. For some the answer comes at once, some cost their limit.
BOMBS = [HUNG, "2^{2^{36}}", "\\binom{10^{9}}{10^{8}}", "(9^{9^8})!", "2^{2^{36}}x", "\\log_{2} 9^{9^{9^9}}"]


def test_one_hung_answer_does_not_hold_up_fifty_others(small: Grader, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    conclude = small._pool._conclude

    def noted(job: int, verdict: str, batch: Any) -> None:
        ended.append(job)
        conclude(job, verdict, batch)

    monkeypatch.setattr(small._pool, "_conclude", noted)
    monkeypatch.setattr(small._pool, "_seconds", 9.0)
    grades = grade(small, (HUNG, "17"), *[(f"{n}y+3", f"3+{n}y") for n in range(50)])
    assert [grade.reason for grade in grades] == ["timed out"] + ["right"] * 50
    assert ended[-1] == 0, "the other process has done all the rest while one was hung"


def test_bombs_among_ordinary_answers_cost_at_most_their_own_limits(small: Grader) -> None:
    start = time.monotonic()
    assert all(grade.reason == "right" for grade in grade(small, *[(f"{n}x+3", f"3+{n}x") for n in range(40)]))
    alone = time.monotonic() - start
    start = time.monotonic()
    grades = grade(small, *[(bomb, "23") for bomb in BOMBS], *[(f"{n}z+3", f"3+{n}z") for n in range(40)])
    # Two processes share the limits of one second each; the rest is the machine's other work.
    assert time.monotonic() - start < len(BOMBS) * 1.0 + 3 * alone + 3
    assert not any(grade.overall for grade in grades[: len(BOMBS)])
    assert all(grade.reason == "right" for grade in grades[len(BOMBS) :])


def test_the_memory_of_every_grading_process_is_bounded(small: Grader) -> None:
    assert grade(small, (EASY, "1+x"))[0].reason == "right"
    pids = _with_children(pids_of(small))
    assert len(pids) == 2 * len(pids_of(small))
    for pid in pids:
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert re.search(rf"Max address space +{2 << 30} +{2 << 30} ", limits)
        assert re.search(r"Max core file size +0 +0 ", limits)


def test_an_answer_that_eats_memory_is_not_right_and_the_process_goes_on() -> None:
    program = (
        "from visionr1.child import limit_memory\n"
        "from visionr1.reward.worker import _Comparer\n"
        "limit_memory(2)\n"
        "hoard = []\n"
        "def equal(answer, truth):\n"
        "    while answer == 'x+2':\n"
        "        hoard.append(bytes(1 << 26))\n"
        "    return True\n"
        "comparer = _Comparer(equal)\n"
        "print([comparer.compare(answer, 'x+1', 30.0) for answer in ('x+2', '1+x', 'x+2', '1+x')])\n"
    )
    reported = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120).stdout
    assert reported == str(["not comparable: MemoryError", "right"] * 2) + "\n"


def test_a_process_that_dies_under_an_answer_costs_that_answer_only() -> None:
    program = (
        "import os\n"
        "from visionr1.reward.worker import _Comparer\n"
        "comparer = _Comparer(lambda answer, truth: os.abort() if answer == 'x+2' else True)\n"
        "print([comparer.compare(answer, 'x+1', 30.0) for answer in ('x+2', '1+x', 'x+2', '1+x')])\n"
    )
    reported = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120).stdout
    assert reported == str(["not comparable: the grading process died", "right"] * 2) + "\n"


def test_ordinary_answers_cost_what_ten_thousand_in_thirty_seconds_on_two_cores_may() -> None:
    """In CPU seconds, which tell less of what else the machine does: 6 ms an answer, and a third more."""
    found = benchmark("reward_speed.py", "--answers", "600", "--baseline-answers", "60")
    ours, plain = found["this project, 2 processes"], found["math-verify alone, 1 process"]
    assert ours["cpu_seconds"] < 600 * 0.008
    assert ours["cpu_seconds"] / ours["answers"] < plain["cpu_seconds"] / plain["answers"]
    assert 240 < ours["right"] < 360


def test_no_string_of_two_thousand_is_paid_or_stalls() -> None:
    """The generators of the 100,000 in docs/reward.md, with another seed."""
    found = benchmark("reward_adversarial.py", "--strings", "2000", "--seed", "2", "--seconds-per-answer", "1")
    assert found["false_rewards"] == 0, found["false_reward_examples"]
    assert (found["strings"], found["stalls"], found["right_answers_missed"]) == (2000, 0, 0)
    assert found["right_answers"] > 10 and found["kinds"]["bomb"] > 1
    assert found["peak_process_mib"] < 1024


def test_importing_the_room_is_cheap() -> None:
    heavy = (
        "import sys, visionr1.reward; print([m for m in ('sympy', 'torch', 'transformers', 'ray', 'vllm') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True).stdout == "[]\n"
