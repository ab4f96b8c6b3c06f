"""One process of the grading pool, started by `pool.Pool`.

It loads sympy once and then only watches a fork of itself that compares: a fork that hangs is killed
and replaced within milliseconds, where loading sympy again would take seconds.
"""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

from visionr1.child import limit_memory, serve
from visionr1.reward.answer import judge
from visionr1.reward.pool import DIED, RIGHT, TIMED_OUT, WRONG

_MEMORY_GIB = 2
_GRACE_SECONDS = 2.0

Equal = Callable[[str, str], bool]


def main() -> None:
    """Serves comparisons until the parent closes the pipe, with a limit on its memory."""
    limit_memory(_MEMORY_GIB)
    serve(_start)


def _start() -> tuple[object, Callable[[Any], object]]:
    try:
        from visionr1.reward.symbolic import equal
    except ImportError as missing:
        return {"error": f"{missing}; install visionr1-ptst[data]"}, lambda _: None
    equal("x+1", "1+x")  # The parser builds its tables at the first use; the forks inherit them.
    comparer = _Comparer(equal)
    return {"error": ""}, lambda job: comparer.compare(*job)


class _Comparer:
    """A fork that compares one answer after the other, replaced when it hangs or dies."""

    def __init__(self, equal: Equal) -> None:
        self._equal = equal
        self._fork()

    def compare(self, answer: str, truth: str, seconds: float, options: Sequence[str] = ()) -> str:
        self._jobs.write(json.dumps([answer, truth, seconds, options]).encode() + b"\n")
        self._jobs.flush()
        if select.select([self._verdicts], [], [], seconds)[0]:
            verdict = self._verdicts.readline().decode().strip() or DIED
        else:
            verdict = TIMED_OUT
        if verdict in (DIED, TIMED_OUT):
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._jobs.close()
            self._verdicts.close()
            self._fork()
        return verdict

    def _fork(self) -> None:
        jobs_in, jobs_out = os.pipe()
        verdicts_in, verdicts_out = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(jobs_out)  # Held open here, it would keep the end of the watching process from being seen.
            _compare_all(os.fdopen(jobs_in, "rb"), os.fdopen(verdicts_out, "wb", buffering=0), self._equal)
        os.close(jobs_in)
        os.close(verdicts_out)
        self._jobs, self._verdicts = os.fdopen(jobs_out, "wb"), os.fdopen(verdicts_in, "rb")


def _compare_all(jobs: BinaryIO, verdicts: BinaryIO, equal: Equal) -> None:
    for line in jobs:
        answer, truth, seconds, options = json.loads(line)
        # The watching process kills at the limit; this alarm (default action: the end) is for one that has died itself.
        signal.setitimer(signal.ITIMER_REAL, seconds + _GRACE_SECONDS)
        verdicts.write(_verdict(answer, truth, options, equal).encode() + b"\n")
        signal.setitimer(signal.ITIMER_REAL, 0)
    os._exit(0)


def _verdict(answer: str, truth: str, options: Sequence[str], equal: Equal) -> str:
    try:
        return RIGHT if judge(answer, truth, equal, options).right else WRONG
    except Exception as error:  # sympy raises nearly every type on nonsense
        return f"not comparable: {type(error).__name__}"


if __name__ == "__main__":
    main()
