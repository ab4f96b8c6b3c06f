"""Scores one model on published sets: asks for the replies that are missing, reads and judges them, writes the score."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from visionr1.benchmarks.problem import Benchmark, Problem
from visionr1.benchmarks.read import load_benchmark, prompt_template
from visionr1.benchmarks.score import figures, means
from visionr1.benchmarks.sets import BENCHMARKS
from visionr1.data.check import BadRowNote, CheckReport, check_problems
from visionr1.data.coldstart.evaluation_sets import EvaluationSets
from visionr1.data.coldstart.reply import Reply
from visionr1.data.coldstart.work import WorkLog
from visionr1.data.fingerprint import digest, fingerprint
from visionr1.data.readers import Lazy, select
from visionr1.data.rows import Row
from visionr1.errors import BadInput
from visionr1.evaluate.judge import JudgeModel
from visionr1.evaluate.replies import Answerer, Wanted, sampling_of, wanted_replies
from visionr1.evaluate.verdicts import Verdicts, verdicts
from visionr1.progress import progress
from visionr1.recipe import Recipe
from visionr1.recipe.evaluation import BenchmarkSource
from visionr1.report.words import duration
from visionr1.reward import Grader
from visionr1.rundir.benchmark_scores import BenchmarkSample, BenchmarkScore, Conditions, read_benchmark, write_benchmark
from visionr1.storage import Store
from visionr1.version import version_line

_SAID: Final = 10
"""Problems that are left out by name in the log."""
STRICT_RULE: Final = "hfrrf's comparer, version 1"


@dataclass(frozen=True)
class Set:
    """A set as it is scored: its usable problems, what was left out, and which of all are in the training data.

    `fingerprint` is of the problems that are scored, wherever their files lie.
    """

    benchmark: Benchmark
    source: BenchmarkSource
    problems: Sequence[Problem]
    rows: Sequence[Row]
    fingerprint: str
    skipped: list[BadRowNote]
    seen: list[str]
    dropped: int


def load_set(
    source: BenchmarkSource,
    recipe: Recipe,
    training: EvaluationSets | None,
    max_prompt_tokens: int,
    count_tokens: Callable[[Row], int] | None,
) -> Set:
    """Reads and checks every problem of a set once, with a progress bar.

    Args:
        training: what the model was trained on; None if that is not known.
        count_tokens: tokens of a prompt; None where nobody counts them.

    Raises:
        BadInput: the set cannot be read, none of its rows can be used, or all of them were seen.
    """
    benchmark = BENCHMARKS[source.name]
    problems = load_benchmark(benchmark, source.path, source.image_root, source.limit)
    rows = _rows(problems)
    report = check_problems(
        rows,
        min_pixels=recipe.model.min_pixels,
        max_pixels=recipe.model.max_pixels,
        max_prompt_tokens=max_prompt_tokens,
        count_prompt_tokens=count_tokens,
    )
    for note in report.bad[:_SAID]:
        print(f"left out {note.id}: {note.detail}; {note.remedy}", file=sys.stderr)
    usable = report.usable()
    seen = _seen(benchmark, select(problems, usable), training)
    kept = [index for index, names in zip(usable, seen, strict=True) if not (recipe.evaluation.drop_seen and names)]
    listed = [names for names in seen if names]
    if not kept:
        raise BadInput(f"{benchmark.title}: all {len(usable)} problems are in the training data, so none is left to score")
    if listed:
        verb = "are left out" if recipe.evaluation.drop_seen else "count all the same (--drop-seen leaves them out)"
        print(f"{benchmark.title}: {len(listed)} problems are in the training data and {verb}: {listed[0]}", file=sys.stderr)
    if len(rows) not in benchmark.sizes.values():
        sizes = " or ".join(f"{size:,} ({split})" for split, size in benchmark.sizes.items())
        print(f"note: {benchmark.title} has {len(rows):,} problems here, and {sizes} as it is published", file=sys.stderr)
    chosen = select(problems, kept)
    return Set(
        benchmark=benchmark,
        source=source,
        problems=chosen,
        rows=_rows(chosen),
        fingerprint=_fingerprint(report, chosen, usable, kept),
        skipped=report.bad,
        seen=listed,
        dropped=len(usable) - len(kept),
    )


def _rows(problems: Sequence[Problem]) -> Sequence[Row]:
    return Lazy(len(problems), lambda index: problems[index].row)


def _fingerprint(report: CheckReport, chosen: Sequence[Problem], usable: Sequence[int], kept: Sequence[int]) -> str:
    return report.fingerprint if len(kept) == len(usable) else fingerprint(digest(one.row) for one in chosen)


def _seen(benchmark: Benchmark, problems: Sequence[Problem], training: EvaluationSets | None) -> list[str]:
    """For each problem what it shares with which row of the training data; "" for nothing. Only the question counts."""
    if training is None:
        return [""] * len(problems)
    found = []
    with progress(f"looking for {benchmark.title} in the training data", len(problems)) as advance:
        for problem in problems:
            shared = training.look(replace(problem.row, problem=problem.question))
            found.append(f"{problem.row.id}: {shared}" if shared else "")
            advance(1)
    return found


def conditions(one: Set, recipe: Recipe, judge: JudgeModel | None) -> Conditions:
    """All that scores must have in common to be compared, but for the model."""
    benchmark = one.benchmark
    judged = judge is not None and benchmark.judged != "nothing"
    return Conditions(
        title=benchmark.title,
        split=_split(one.source, benchmark),
        limit=one.source.limit,
        fingerprint=one.fingerprint,
        rule=f"{benchmark.rule.name}, version {benchmark.rule.version}",
        strict_rule=STRICT_RULE,
        judge=judge.conditions if judged and judge else None,
        prompt=hashlib.sha256(prompt_template(benchmark.name).encode()).hexdigest()[:12],
        **sampling_of(recipe),
        samples=recipe.evaluation.samples,
        seed=recipe.seed,
    )


def _split(source: BenchmarkSource, benchmark: Benchmark) -> str:
    """The file's or folder's name, or the splits on the Hub."""
    if source.path is not None:
        return source.path.rstrip("/").rpartition("/")[2]
    return ", ".join(address.partition("@")[2] for address in benchmark.sources)


def labelled(benchmark: Benchmark, judge: JudgeModel | None) -> str:
    """By whom a score is, for tables."""
    if benchmark.judged == "nothing":
        return "rule"
    if judge is None:
        return "rule, no judge"
    return {"reading": "rule, read by a judge", "scoring": "judge"}[benchmark.judged]


@dataclass(frozen=True)
class Scorer:
    """What all sets and models of one evaluation share."""

    recipe: Recipe
    store: Store
    log: WorkLog
    grader: Grader
    judge: JudgeModel | None
    should_stop: Callable[[], bool]

    def score(self, one: Set, model: Answerer, scored: str, step: int = 0) -> BenchmarkScore:
        """The score of a model on a set; the one that is there already if it is whole and of these very weights and problems.

        Raises Stopped when asked to stop; the replies so far are kept, and the next call goes on with the rest.
        """
        begun, judge_tokens = time.perf_counter(), 0 if self.judge is None else self.judge.tokens
        shared = conditions(one, self.recipe, self.judge)
        made_with = {"program": version_line(), **model.made_with, **model.depends_on}
        before = read_benchmark(self.store, one.benchmark.name, shared, scored)
        if (
            before is not None
            and before.step == step
            and _same_model(before.made_with, model.depends_on)
            and (before.seen, before.dropped, before.unanswered) == (one.seen, one.dropped, 0)
        ):
            return before
        wanted = wanted_replies(one.rows, self.recipe, model.depends_on)
        self._ask(one.benchmark.title, wanted, model, scored)
        replies = [self.log.get(want.key) for want in wanted]
        found = verdicts(one.benchmark, one.problems, wanted, replies, self.judge, self.grader, self.should_stop)
        score = _score(one, self.recipe, replies, found)
        finished = BenchmarkScore(
            benchmark=one.benchmark.name,
            scored=scored,
            step=step,
            conditions=shared,
            made_with=made_with,
            labelled=labelled(one.benchmark, self.judge),
            expected_problems=tuple(one.benchmark.sizes.values()),
            seconds=round(time.perf_counter() - begun, 2),
            seen=one.seen,
            dropped=one.dropped,
            skipped=[f"{note.id}: {note.detail}" for note in one.skipped],
            judge_tokens=0 if self.judge is None else self.judge.tokens - judge_tokens,
            **score,
        )
        write_benchmark(self.store, finished, _samples(one, wanted, replies, found))
        return finished

    def _ask(self, title: str, wanted: Sequence[Wanted], model: Answerer, scored: str) -> None:
        """Asks for the replies that are not there yet."""
        new = [want for want in wanted if self.log.get(want.key) is None]
        if not new:
            return
        begun, tokens, done = time.monotonic(), 0, 0
        with progress(f"{title}, {scored}", len(wanted), len(wanted) - len(new)) as advance:

            def keep(want: Wanted, reply: Reply | None) -> None:
                nonlocal tokens, done
                done += 1
                if reply is not None:
                    self.log.add(want.key, want.row.id, title, reply)
                    tokens += reply.reply_tokens
                left = (time.monotonic() - begun) / done * (len(new) - done)
                advance(1, f"{tokens:,} tokens" + (f", {duration(left)} left" if done < len(new) else ""))
                self.log.flush()

            try:
                model.answer(new, keep, self.should_stop)
            finally:
                self.log.flush(at_once=True)


def _same_model(made_with: Mapping[str, Any], depends_on: Mapping[str, Any]) -> bool:
    return all(made_with.get(name) == value for name, value in depends_on.items())


def _score(one: Set, recipe: Recipe, replies: Sequence[Reply | None], found: Verdicts) -> dict[str, Any]:
    """The figures of a score."""
    samples = recipe.evaluation.samples
    right, strict = (_by_problem(values, samples) for values in (found.right, found.strict))
    mean, strict_mean = means(right), means(strict)
    answered = [reply for reply in replies if reply is not None]
    return {
        "accuracy": mean.mean,
        "standard_error": mean.over_problems,
        "standard_error_of_seeds": mean.over_passes,
        "strict_accuracy": strict_mean.mean,
        "strict_standard_error": strict_mean.over_problems,
        "figures": figures(one.benchmark, one.problems, right),
        "problems": len(one.problems),
        "samples": samples,
        "completion_tokens_mean": sum(reply.reply_tokens for reply in answered) / max(1, len(answered)),
        "truncated_ratio": sum(reply.finish_reason == "length" for reply in answered) / max(1, len(answered)),
        "prompt_tokens": sum(reply.prompt_tokens for reply in answered),
        "completion_tokens": sum(reply.reply_tokens for reply in answered),
        "unanswered": len(replies) - len(answered),
        "unjudged": found.unjudged,
    }


def _by_problem(values: Sequence[bool], samples: int) -> list[list[bool]]:
    return [list(values[start : start + samples]) for start in range(0, len(values), samples)]


def _samples(one: Set, wanted: Sequence[Wanted], replies: Sequence[Reply | None], found: Verdicts) -> list[BenchmarkSample]:
    return [
        BenchmarkSample(
            id=problem.row.id,
            sample=want.sample,
            response="" if reply is None else reply.text,
            tokens=0 if reply is None else reply.reply_tokens,
            finish_reason="unanswered" if reply is None else reply.finish_reason,
            answer=answer,
            right=right,
            strict=strict,
            truth=problem.row.answer,
        )
        for want, problem, reply, answer, right, strict in zip(
            wanted, found.problems, replies, found.answers, found.right, found.strict, strict=True
        )
    ]
