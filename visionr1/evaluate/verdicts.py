"""From replies to verdicts: the set's rule or a judge, and our strict rule beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from visionr1.benchmarks.blocks import after_thought, answer_block
from visionr1.benchmarks.judge import answer_in, reading_prompt, scoring_prompt, verdict_in
from visionr1.benchmarks.problem import Benchmark, Problem
from visionr1.benchmarks.score import read_answer, strict_answer
from visionr1.data.coldstart.reply import Reply
from visionr1.evaluate.judge import JudgeModel
from visionr1.evaluate.replies import Wanted
from visionr1.reward import Grader
from visionr1.reward.pool import Comparison


@dataclass(frozen=True)
class Verdicts:
    """One of each for every reply, in order; `unjudged` counts replies about which the judge gave no usable verdict."""

    problems: list[Problem]
    answers: list[str]
    right: list[bool]
    strict: list[bool]
    unjudged: int


def verdicts(
    benchmark: Benchmark,
    problems: Sequence[Problem],
    wanted: Sequence[Wanted],
    replies: Sequence[Reply | None],
    judge: JudgeModel | None,
    grader: Grader,
    should_stop: Callable[[], bool],
) -> Verdicts:
    """Reads and scores all replies. A missing one is wrong. Raises as `JudgeModel.ask`."""
    about = _without_pictures(problems, wanted)
    texts = ["" if reply is None else reply.text for reply in replies]
    reader = judge if benchmark.judged != "nothing" else None
    answers = _answers(benchmark, about, texts, reader, should_stop)
    unjudged = answers.count(None)
    read = [answer or "" for answer in answers]
    if judge is not None and benchmark.judged == "scoring":
        verdicts_ = _judged(benchmark, about, read, judge, should_stop)
        unjudged += verdicts_.count(None)
        right = [verdict is True for verdict in verdicts_]
    else:
        right = by_rule(benchmark, about, read, grader)
    strict = grader.same(
        [
            Comparison(strict_answer(benchmark, problem, text), problem.row.answer, problem.row.options)
            for problem, text in zip(about, texts, strict=True)
        ]
    )
    given = [reply is not None for reply in replies]
    return Verdicts(about, read, _both(right, given), _both(strict, given), unjudged)


def _without_pictures(problems: Sequence[Problem], wanted: Sequence[Wanted]) -> list[Problem]:
    """The problem of each reply, without its pictures, which would fill the memory."""
    plain = [replace(problem, row=replace(problem.row, images=())) for problem in problems]
    return [plain[want.place] for want in wanted]


def _answers(
    benchmark: Benchmark,
    problems: Sequence[Problem],
    texts: Sequence[str],
    judge: JudgeModel | None,
    should_stop: Callable[[], bool],
) -> list[str | None]:
    """The answer in each reply. A judge reads those without an answer block where no short cut finds one."""
    if judge is None:
        return [read_answer(benchmark, problem, text) for problem, text in zip(problems, texts, strict=True)]
    answers: list[str | None] = []
    asked: list[int] = []
    for place, (problem, text) in enumerate(zip(problems, texts, strict=True)):
        rest = after_thought(text).strip()
        if answer_block(text) is not None or not rest:
            answers.append(read_answer(benchmark, problem, text))
            continue
        found = benchmark.rule.short_cut(problem, rest)
        answers.append(found)
        if found is None:
            asked.append(place)
    prompts = [(problems[place].row.id, reading_prompt(problems[place], texts[place])) for place in asked]
    for place, answer in zip(asked, judge.ask(f"{benchmark.title}: reading", prompts, answer_in, should_stop), strict=True):
        answers[place] = answer
    return answers


def _judged(
    benchmark: Benchmark,
    problems: Sequence[Problem],
    answers: Sequence[str],
    judge: JudgeModel,
    should_stop: Callable[[], bool],
) -> list[bool | None]:
    """What the judge says of each answer; no answer is wrong without being asked about."""
    asked = [place for place, answer in enumerate(answers) if answer.strip()]
    prompts = [(problems[place].row.id, scoring_prompt(problems[place], answers[place])) for place in asked]
    found: list[bool | None] = [False] * len(answers)
    for place, verdict in zip(asked, judge.ask(f"{benchmark.title}: judging", prompts, verdict_in, should_stop), strict=True):
        found[place] = verdict
    return found


class _Comparer:
    """Answers what is known of pairs, and collects those that are not; for these it says False until they are known."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], bool] = {}
        self.unknown: dict[tuple[str, str], None] = {}

    def __call__(self, answer: str, truth: str) -> bool:
        if (answer, truth) not in self.known:
            self.unknown[answer, truth] = None
        return self.known.get((answer, truth), False)


def by_rule(benchmark: Benchmark, problems: Sequence[Problem], answers: Sequence[str], grader: Grader) -> list[bool]:
    """The verdicts of the set's rule; what it wants to know of the comparer is asked for all replies at once."""
    same = _Comparer()
    while True:
        found = [benchmark.rule.right(problem, answer, same) for problem, answer in zip(problems, answers, strict=True)]
        if not same.unknown:
            return found
        pairs = list(same.unknown)
        same.known |= zip(pairs, grader.same(pairs), strict=True)
        same.unknown = {}


def _both(values: Sequence[bool], given: Sequence[bool]) -> list[bool]:
    return [value and there for value, there in zip(values, given, strict=True)]
