"""Grading a batch of responses, as the recipe's `reward` section says."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Final, Self

from visionr1.recipe.schema import Reward
from visionr1.reward.answer import matches
from visionr1.reward.hfrrf import BUILT_IN, Grade, Reading, read_response
from visionr1.reward.pool import RIGHT, WRONG, Pool
from visionr1.reward.user import UserReward

_LONGEST_SHOWN: Final = 500


class Grader:
    """Grades responses by hfrrf, zero or the user's function; close it, or use it in a `with` block.

    Its processes start when the first answer needs them, so it may be made anywhere: in a Ray actor, a
    thread or a script. `timeouts` counts the answers that took longer than `seconds_per_answer`.
    Raises BadInput if `settings.function` is none of the three or the user's file is broken.
    """

    def __init__(self, settings: Reward) -> None:
        built_in = settings.function in BUILT_IN
        self._user = None if built_in else UserReward(settings.function, settings.seconds_per_answer)
        self._function = settings.function
        self._pool = Pool(settings.processes, settings.seconds_per_answer)
        self._lock = threading.Lock()

    @property
    def timeouts(self) -> int:
        """Answers that ran over their time since the grader was made."""
        return self._pool.timeouts

    def grade(self, responses: list[str], answers: list[str], lengths: list[int] | None = None) -> list[Grade]:
        """One grade a response, in order.

        `responses` are whole completions without special tokens, `answers` the true answers, `lengths`
        the completions' tokens, which only a user's function sees. Raises BadInput for a faulty user's
        function, ValueError if the lists differ in length.
        """
        if not len(responses) == len(answers) == len(responses if lengths is None else lengths):
            raise ValueError(f"{len(responses)} responses, {len(answers)} answers and {lengths and len(lengths)} lengths")
        with self._lock:
            if self._user is not None:
                return self._user.grade(responses, answers, lengths)
            readings = [read_response(response) for response in responses]
            verdicts = self._verdicts([(reading.answer, truth) for reading, truth in zip(readings, answers, strict=True)])
        return [self._graded(*pair) for pair in zip(readings, verdicts, strict=True)]

    def same(self, pairs: list[tuple[str, str]]) -> list[bool]:
        """For pairs of (answer, true answer), both already read: are they the same?"""
        with self._lock:
            return [verdict == RIGHT for verdict in self._verdicts(list(pairs))]

    def close(self) -> None:
        """End all processes at once."""
        self._pool.close()
        if self._user is not None:
            self._user.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _verdicts(self, pairs: list[tuple[str | None, str]]) -> list[str]:
        """Each different pair is compared once, by the pool only where its spelling does not decide."""
        known: dict[tuple[str | None, str], str] = {}
        unknown: list[tuple[str, str]] = []
        for answer, truth in dict.fromkeys(pairs):
            verdict = False if answer is None else matches(answer, truth, lambda _given, _true: None)
            if answer is not None and verdict is None:
                unknown.append((answer, truth))
            else:
                known[answer, truth] = RIGHT if verdict else WRONG
        known.update(zip(unknown, self._pool.compare(unknown), strict=True))
        return [known[pair] for pair in pairs]

    def _graded(self, reading: Reading, verdict: str) -> Grade:
        right = verdict == RIGHT
        overall = BUILT_IN[self._function](not reading.fault, right)
        reason = f"format: {reading.fault}" if reading.fault else verdict
        shown = reading.answer and reading.answer[:_LONGEST_SHOWN]
        return Grade(overall, float(not reading.fault), float(right), shown, reason)
