"""The whole phase: ask, filter, write; interrupted at any time, it goes on where it was."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from visionr1.data.coldstart.bridge import Bridge, Bridged
from visionr1.data.coldstart.filters import Candidate, Rejection, SameAnswer, decide, judge, response
from visionr1.data.coldstart.output import make_report, write_samples
from visionr1.data.coldstart.teacher import EndpointLost, TeacherClient
from visionr1.data.coldstart.templates import load_templates
from visionr1.data.coldstart.work import WorkLog
from visionr1.data.readers import load_problems
from visionr1.data.rows import Row
from visionr1.errors import BadInput, Stopped
from visionr1.progress import progress
from visionr1.recipe.phases import COLDSTART_PHASE
from visionr1.recipe.schema import ColdStart, Recipe
from visionr1.rundir.coldstart import ColdStartReport, commit, is_committed, read_report, write_report
from visionr1.rundir.layout import COLDSTART_MANIFEST, COLDSTART_REPORT
from visionr1.storage import Store

Tell = Callable[[dict[str, Any]], None]
WHERE: Final = {"phase": COLDSTART_PHASE, "stage": None}
POLL_SECONDS: Final = 0.5
COMPARE_AT_ONCE: Final = 512
FEW_FAILURES: Final = 20
"""So many failed requests, or one in twenty if that is more, are reported; beyond that the endpoint is taken for lost."""


def run_coldstart(
    recipe: Recipe,
    store: Store,
    same_answer: SameAnswer,
    should_stop: Callable[[], bool],
    resolve_url: Callable[[str], str] = lambda url: url,
    tell: Tell = lambda _: None,
) -> ColdStartReport:
    """Makes the cold-start data of a run (section 3.3.1) and commits it with a manifest; returns the report.

    Committed data is left as it is. `same_answer` compares (answer, true answer) pairs; `resolve_url` turns a teacher's
    base_url into an address that can be called (for `demo://teacher`). `tell` is given what can be watched, keyed as in
    `visionr1.metrics`.

    Raises Stopped when asked to stop (what was answered is kept), BadInput for recipes, data or endpoints that cannot work
    and when no problem survives, EndpointLost when an endpoint that worked has gone.
    """
    coldstart = recipe.coldstart
    if coldstart is None:
        raise BadInput("the recipe has no coldstart section; add one, or set sft.data to existing data")
    if is_committed(store):
        report = read_report(store)
        if report is None:
            raise BadInput(f"{store.url}/{COLDSTART_REPORT} is missing; delete {COLDSTART_MANIFEST}, and both are written again")
        return report
    rows = load_problems(coldstart.problems)
    bridge = _bridge(recipe, coldstart, store, resolve_url)
    tell(WHERE | {"coldstart_problems": len(rows), "started_timestamp_seconds": time.time()})
    bridged = asyncio.run(_ask_all(bridge, rows, should_stop, _Teller(bridge, tell)))
    outcomes = list(_filtered(bridged, same_answer, should_stop))
    report = make_report([problem.row_id for problem in bridged], outcomes, bridge.asked, bridge.reused)
    write_report(store, report)
    tell(WHERE | {"coldstart_kept": report.kept, "coldstart_dropped": report.rejected})
    if not report.kept:
        reasons = ", ".join(f"{count} x {rule}" for rule, count in report.rejected.items())
        example = next(iter(report.examples.values()))
        raise BadInput(f"none of the {report.problems} problems became a sample ({reasons}); {example.id}: {example.excerpt}")
    write_samples(store, rows, [(index, outcome) for index, outcome in enumerate(outcomes) if isinstance(outcome, str)])
    commit(store, report.kept)
    return report


def _bridge(recipe: Recipe, coldstart: ColdStart, store: Store, resolve_url: Callable[[str], str]) -> Bridge:
    describer, reasoner = (
        TeacherClient(f"coldstart.{name}", teacher, coldstart, resolve_url)
        for name, teacher in (("describer", coldstart.describer), ("reasoner", coldstart.reasoner))
    )
    return Bridge(coldstart, recipe.model, load_templates(coldstart.prompts_dir), describer, reasoner, WorkLog(store))


class _Teller:
    """Tells what is new since the last time."""

    def __init__(self, bridge: Bridge, tell: Tell) -> None:
        self._bridge, self._tell = bridge, tell
        self._asked = self._failed = 0

    def __call__(self, answered: int) -> None:
        asked, failed = self._bridge.asked, len(self._bridge.failures)
        new = {"coldstart_requests": asked - self._asked, "coldstart_failures": failed - self._failed}
        self._asked, self._failed = asked, failed
        self._tell(WHERE | {"coldstart_answered": answered} | new)


async def _ask_all(bridge: Bridge, rows: Sequence[Row], should_stop: Callable[[], bool], tell: _Teller) -> list[Bridged]:
    """Every row's reply, at most `concurrency` rows at a time, each with one request in flight."""
    done: dict[int, Bridged] = {}
    todo = iter(range(len(rows)))

    with progress("cold start", len(rows)) as advance:

        def show(answered: int) -> None:
            advance(0, bridge.describer.waiting() or bridge.reasoner.waiting())
            tell(answered)

        async def work() -> None:
            for index in todo:
                done[index] = await bridge.reason(rows, index)
                advance(1)

        workers = {asyncio.create_task(work()) for _ in range(min(bridge.recipe.concurrency, len(rows)))}
        try:
            await _watch(workers, bridge, done, len(rows), should_stop, show)
        finally:
            tell(len(done))
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            bridge.work.flush(at_once=True)
            await bridge.describer.close()
            await bridge.reasoner.close()
    return [done[index] for index in range(len(rows))]


async def _watch(
    workers: set[asyncio.Task[None]],
    bridge: Bridge,
    done: dict[int, Bridged],
    total: int,
    should_stop: Callable[[], bool],
    show: Callable[[int], None],
) -> None:
    """Waits for the workers; keeps what they were told, and ends early on a stop request or a lost endpoint."""
    running = workers
    while running:
        finished, running = await asyncio.wait(running, timeout=POLL_SECONDS, return_when=asyncio.FIRST_EXCEPTION)
        for worker in finished:
            worker.result()
        bridge.work.flush()
        show(len(done))
        if running and should_stop():
            raise Stopped(f"stopped with {len(done)} of {total} problems answered; the replies are kept")
        if len(bridge.failures) > max(FEW_FAILURES, total // 20):
            raise EndpointLost(
                f"{len(bridge.failures)} of {total} problems failed, the last: {bridge.failures[-1]}; run it again for the rest"
            )


def _filtered(bridged: Sequence[Bridged], same_answer: SameAnswer, should_stop: Callable[[], bool]) -> Iterator[str | Rejection]:
    """Each problem's response, or why it has none; answers are compared many at once."""
    with progress("filtering", len(bridged)) as advance:
        for chunk in (bridged[start : start + COMPARE_AT_ONCE] for start in range(0, len(bridged), COMPARE_AT_ONCE)):
            if should_stop():
                raise Stopped("stopped while filtering; the replies are kept")
            judged = [problem.reply if isinstance(problem.reply, Rejection) else judge(problem.reply) for problem in chunk]
            pairs = [(one, problem.truth) for one, problem in zip(judged, chunk, strict=True) if isinstance(one, Candidate)]
            decided = iter(decide(pairs, same_answer))
            for one, problem in zip(judged, chunk, strict=True):
                verdict = next(decided) if isinstance(one, Candidate) else one
                yield response(verdict, problem.truth) if isinstance(verdict, Candidate) else verdict
            advance(len(chunk))
