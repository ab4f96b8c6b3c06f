"""From a problem's samples to the one that is kept, and to how hard the problem is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from visionr1.data.coldstart.bridge import Bridged
from visionr1.data.coldstart.extract import final_answer, parts
from visionr1.data.coldstart.filters import RULES, Candidate, Kept, Rejection, SameAnswer, decide, judge
from visionr1.data.coldstart.reply import Reply
from visionr1.recipe.coldstart import ColdStart, Filters

Judged = Sequence[Candidate | Rejection]
"""What became of a problem's replies before answers are compared."""
Choice = Literal["first", "shortest", "longest"]
_ORDER: Final = {rule: place for place, rule in enumerate(RULES)}


@dataclass(frozen=True)
class Dropped:
    """A sample that was not kept: its number, why, and its text as it came ("" if there is none)."""

    sample: int
    rejection: Rejection
    text: str


@dataclass(frozen=True)
class Outcome:
    """What became of one problem.

    `result` is the chain that is kept, or why there is none; `dropped` are all samples that were not kept. `solved` is the
    share of the samples with the right answer, None if no sample was made or the answer is not known.
    """

    index: int
    row_id: str
    images: int
    truth: str
    result: Kept | Rejection
    dropped: tuple[Dropped, ...]
    solved: float | None


def judge_all(replies: Sequence[tuple[Reply | Rejection, ...]], filters: Filters) -> list[Judged]:
    """What every rule says that needs no comparison of answers, for the replies of each problem."""
    return [[one if isinstance(one, Rejection) else judge(one, filters) for one in row] for row in replies]


def sift(bridged: Sequence[Bridged], judged: Sequence[Judged], recipe: ColdStart, same_answer: SameAnswer) -> list[Outcome]:
    """The outcome of each problem. All answers are compared at once, since the grader takes many as quickly as one."""
    truths = [problem.truth or majority(_answers(one), same_answer) for problem, one in zip(bridged, judged, strict=True)]
    pairs = [
        (one, truth) for row, truth in zip(judged, truths, strict=True) if truth for one in row if isinstance(one, Candidate)
    ]
    decided = iter(decide(pairs, same_answer, recipe.filters))
    right = iter(_right_although_dropped(bridged, judged, same_answer))
    return [
        _outcome(problem, truth or "", [_verdict(one, truth, decided) for one in row], next(right), recipe.choose)
        for problem, row, truth in zip(bridged, judged, truths, strict=True)
    ]


def _answers(judged: Judged) -> list[str | None]:
    return [one.answer if isinstance(one, Candidate) else None for one in judged]


def _verdict(one: Candidate | Rejection, truth: str | None, decided: Iterator[Kept | Rejection]) -> Kept | Rejection:
    if isinstance(one, Rejection):
        return one
    if not truth:
        return Rejection("no majority", f"this sample's answer is {one.answer!r}")
    return next(decided)


def _right_although_dropped(bridged: Sequence[Bridged], judged: Sequence[Judged], same_answer: SameAnswer) -> list[int]:
    """For each problem, how many of its dropped replies have the right answer: these count for its difficulty, too."""
    pairs: list[tuple[str, str]] = []
    owners: list[int] = []
    for place, (problem, row) in enumerate(zip(bridged, judged, strict=True)):
        for reply, one in zip(problem.replies, row, strict=True):
            if isinstance(reply, Reply) and isinstance(one, Rejection) and reply.finish_reason == "stop" and problem.truth:
                answer = final_answer(parts(reply).conclusion)
                if answer is not None:
                    pairs.append((answer, problem.truth))
                    owners.append(place)
    counts = [0] * len(bridged)
    for owner, right in zip(owners, same_answer(pairs) if pairs else [], strict=True):
        counts[owner] += right
    return counts


def _outcome(problem: Bridged, truth: str, verdicts: Sequence[Kept | Rejection], right: int, choice: Choice) -> Outcome:
    kept = [(place, one) for place, one in enumerate(verdicts) if isinstance(one, Kept)]
    dropped = tuple(
        Dropped(place, one, _text(problem.replies[place])) for place, one in enumerate(verdicts) if isinstance(one, Rejection)
    )
    right += sum(one.right for _, one in kept)
    right += sum(one.rejection.rule == "contradicts itself" for one in dropped)
    made = any(isinstance(reply, Reply) for reply in problem.replies)
    solved = right / len(problem.replies) if made and problem.truth else None
    result = chosen([one for _, one in kept], choice) if kept else furthest([one.rejection for one in dropped])
    return Outcome(problem.index, problem.row_id, problem.images, truth, result, dropped, solved)


def chosen(kept: Sequence[Kept], choice: Choice) -> Kept:
    """The one that is kept among good chains; of equal ones the first."""
    if choice == "first":
        return kept[0]
    pick = min if choice == "shortest" else max
    return pick(kept, key=lambda one: len(one.thought.split()))


def furthest(rejections: Sequence[Rejection]) -> Rejection:
    """The rejection of the sample that passed most rules: it says best what is wrong with the problem."""
    return max(rejections, key=lambda one: _ORDER[one.rule])


def majority(answers: Sequence[str | None], same_answer: SameAnswer) -> str | None:
    """The answer that more than half of all samples give, and at least two; None if there is none. A sample may have none."""
    different = list(dict.fromkeys(answer for answer in answers if answer is not None))
    pairs = [(one, other) for place, one in enumerate(different) for other in different[:place]]
    leaders = {one: one for one in different}
    for (one, other), equal in zip(pairs, same_answer(pairs) if pairs else [], strict=True):
        if equal and leaders[one] == one:
            leaders[one] = leaders[other]
    votes = [leaders[answer] for answer in answers if answer is not None]
    best = max(dict.fromkeys(votes), key=votes.count, default=None)
    return best if best is not None and votes.count(best) > max(1, len(answers) // 2) else None


def _text(reply: Reply | Rejection) -> str:
    if isinstance(reply, Rejection):
        return ""
    return f"<think>{reply.reasoning}</think>{reply.text}" if reply.reasoning.strip() else reply.text
