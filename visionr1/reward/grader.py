"""Grading a batch of responses, as the recipe's `reward` section says."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Final, NamedTuple, Self

from visionr1.recipe.reward import Reward
from visionr1.reward.answer import judge
from visionr1.reward.hfrrf import BUILT_IN, Grade, Reading, read_response
from visionr1.reward.pool import RIGHT, WRONG, Comparison, Pool
from visionr1.reward.user import UserReward

_LONGEST_SHOWN: Final = 500


class _Verdict(NamedTuple):
    """RIGHT, WRONG or what went wrong, and the rule that decided."""

    reason: str
    rule: str


class Grader:
    """Grades responses by hfrrf, zero or the user's function; close it, or use it in a `with` block.

    Its processes start when the first answer needs them, so it may be made anywhere: in a Ray actor, a
    thread or a script. `timeouts` counts the answers that took longer than `seconds_per_answer`.
    Raises BadInput if `settings.function` is none of the three or the user's file is broken.
    """

    def __init__(self, settings: Reward) -> None:
        built_in = settings.function in BUILT_IN
        self._user = None if built_in else UserReward(settings)
        self._function = settings.function
        self._pool = Pool(settings.processes, settings.seconds_per_answer)
        self._lock = threading.Lock()

    @property
    def in_parts(self) -> bool:
        """Whether a batch may be graded in parts; a user's function may depend on the whole batch."""
        return self._user is None

    @property
    def timeouts(self) -> int:
        """Answers that ran over their time since the grader was made."""
        return self._pool.timeouts

    def grade(
        self,
        responses: list[str],
        answers: list[str],
        lengths: list[int] | None = None,
        options: Sequence[tuple[str, ...]] | None = None,
    ) -> list[Grade]:
        """One grade a response, in order.

        `responses` are whole completions without special tokens, `answers` the true answers, `lengths`
        the completions' tokens, which only a user's function sees, `options` the texts of each problem's multiple choice
        (() where it has none), which only a built-in function sees. Raises BadInput for a faulty user's
        function, ValueError if the lists differ in length.
        """
        if any(len(responses) != len(other) for other in (answers, lengths, options) if other is not None):
            counts = f"{len(responses)} responses, {len(answers)} answers"
            raise ValueError(f"{counts}, {lengths and len(lengths)} lengths and {options and len(options)} lists of options")
        with self._lock:
            if self._user is not None:
                return self._user.grade(responses, answers, lengths)
            readings = [read_response(response) for response in responses]
            read = zip(readings, answers, options or [()] * len(answers), strict=True)
            verdicts = self._verdicts([Comparison(reading.answer or "", truth, choice) for reading, truth, choice in read])
        return [self._graded(*pair) for pair in zip(readings, verdicts, strict=True)]

    def same(self, pairs: Sequence[tuple[str, str] | Comparison]) -> list[bool]:
        """For pairs of (answer, true answer), both already read, with or without options: are they the same?"""
        with self._lock:
            return [verdict.reason == RIGHT for verdict in self._verdicts([Comparison(*pair) for pair in pairs])]

    def close(self) -> None:
        """End all processes at once."""
        self._pool.close()
        if self._user is not None:
            self._user.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _verdicts(self, comparisons: list[Comparison]) -> list[_Verdict]:
        """Each different one is compared once, by the pool only where its spelling does not decide."""
        known: dict[Comparison, _Verdict] = {}
        unknown: dict[Comparison, str] = {}
        for comparison in dict.fromkeys(comparisons):
            verdict = judge(comparison.answer, comparison.truth, lambda _given, _true: None, comparison.options)
            if verdict.right is None:
                unknown[comparison] = verdict.rule
            else:
                known[comparison] = _Verdict(RIGHT if verdict.right else WRONG, verdict.rule)
        verdicts = self._pool.compare(list(unknown))
        known |= {
            comparison: _Verdict(reason, rule) for (comparison, rule), reason in zip(unknown.items(), verdicts, strict=True)
        }
        return [known[comparison] for comparison in comparisons]

    def _graded(self, reading: Reading, verdict: _Verdict) -> Grade:
        right = verdict.reason == RIGHT
        overall = BUILT_IN[self._function](not reading.fault, right)
        reason = f"format: {reading.fault}" if reading.fault else verdict.reason
        shown = reading.answer and reading.answer[:_LONGEST_SHOWN]
        return Grade(overall, float(not reading.fault), float(right), shown, reason, verdict.rule if reading.answer else "")
