"""A user's own reward: `path/file.py:function` in EasyR1's contract.

The file has `REWARD_NAME`, `REWARD_TYPE` ("batch", the default, or "sequential") and the function. It
gets a list of dicts (or one dict) with `response`, `response_length` (tokens; None if not known) and
`ground_truth`, and returns a dict of finite numbers for each: `overall`, `format`, `accuracy`; other
keys are ignored. It runs in a process of its own, which is killed when it takes too long. One that dies of itself is
replaced once, and gets the same rows again: to stop a driver, Ray sends SIGTERM to all its descendants.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

from visionr1.child import Child
from visionr1.errors import BadInput
from visionr1.preflight.check import reward_fault
from visionr1.recipe.reward import Reward
from visionr1.reward.hfrrf import Grade

_START_SECONDS: Final = 300.0
_SAMPLE_RESPONSES: Final = (
    "<think>3 + 5 = 8</think><answer> Final Answer:8 </answer>",
    "<think>It is the square.</think><answer>B</answer>",
    "<think>A response that was cut",
)
_SAMPLE_ANSWERS: Final = ("8", "C", "x^2")
_SAMPLE_LENGTHS: Final = (9, 7, 5)


class UserReward:
    """The function of one file, checked on a few rows at once.

    `seconds_per_answer` limits a sequential function's every row; a batch of n rows may take
    10 + n / 100 times as long. Raises BadInput, naming the file and the row, for all that is wrong
    with the file, its function or what that returns. If `settings.sha256` is set, only a file with that hash is run.
    """

    def __init__(self, settings: Reward) -> None:
        spec = settings.function
        path, _, function = spec.rpartition(":")
        fault = reward_fault(spec)
        if fault:
            raise BadInput(fault)
        if not Path(path).is_file():
            raise BadInput(f"reward.function {spec}: there is no file {path}")
        self._spec = spec
        self._arguments = (path, function, *([] if settings.sha256 is None else [settings.sha256]))
        self._seconds = settings.seconds_per_answer
        self._child = self._new_child()
        try:
            self._sequential, self.name = self._start()
            self.self_check()
        except BaseException:
            self.close()
            raise

    def grade(self, responses: list[str], answers: list[str], lengths: list[int] | None = None) -> list[Grade]:
        """One grade a row, in order; `lengths` are the responses' tokens. Raises BadInput."""
        if not responses:
            return []
        tokens: list[int] | list[None] = [None] * len(responses) if lengths is None else lengths
        rows = [
            {"response": response, "response_length": length, "ground_truth": answer}
            for response, answer, length in zip(responses, answers, tokens, strict=True)
        ]
        if self._sequential:
            scores = [self._scores([row], index, self._seconds)[0] for index, row in enumerate(rows)]
        else:
            scores = self._scores(rows, 0, self._seconds * (10 + len(rows) / 100))
        return [Grade(*parts, None, f"by {self.name}") for parts in scores]

    def self_check(self) -> None:
        """Grade a right, a wrong and a cut response, so that a broken file fails before the first update."""
        self.grade(list(_SAMPLE_RESPONSES), list(_SAMPLE_ANSWERS), list(_SAMPLE_LENGTHS))

    def close(self) -> None:
        """Kills the process of the user's function."""
        self._child.kill()

    def _new_child(self) -> Child:
        return Child("visionr1.reward.user_worker", *self._arguments, stderr=None)

    def _start(self) -> tuple[bool, str]:
        try:
            ready = self._child.wait(_START_SECONDS)
        except TimeoutError:
            raise BadInput(f"reward.function {self._spec}: the file was not loaded within {_START_SECONDS:.0f} s") from None
        except EOFError:
            raise BadInput(f"reward.function {self._spec}: its process ended while the file was loaded") from None
        if ready["error"]:
            raise BadInput(f"reward.function {self._spec}: {ready['error']}")
        return ready["sequential"], ready["name"]

    def _ask(self, message: dict[str, Any], seconds: float) -> Any:
        try:
            return self._child.ask(message, seconds)
        except (EOFError, BrokenPipeError):
            print(f"reward.function {self._spec}: its process ended; the same rows are given to a new one", file=sys.stderr)
            self._child.kill()
            self._child = self._new_child()
            self._start()
            return self._child.ask(message, seconds)

    def _scores(self, rows: list[dict[str, Any]], first: int, seconds: float) -> list[tuple[float, float, float]]:
        where = f"row {first}" if len(rows) == 1 else f"rows {first} to {first + len(rows) - 1}"
        try:
            reply = self._ask({"rows": rows, "first": first}, seconds)
        except TimeoutError:
            self._child.kill()
            raise BadInput(
                f"reward.function {self._spec}: {where} took longer than {seconds:.1f} s (reward.seconds_per_answer)"
            ) from None
        except (EOFError, BrokenPipeError):
            raise BadInput(f"reward.function {self._spec}: its process ended twice on {where}") from None
        if reply["error"]:
            raise BadInput(f"reward.function {self._spec}: {reply['error']}")
        return [(overall, form, accuracy) for overall, form, accuracy in reply["scores"]]
