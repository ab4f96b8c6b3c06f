"""The whole phase: ask, filter, write; interrupted at any time, it goes on where it was."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any, Final

from visionr1.data.coldstart.ask import ask_all
from visionr1.data.coldstart.bridge import Bridge
from visionr1.data.coldstart.choose import Outcome
from visionr1.data.coldstart.duplicates import Duplicates
from visionr1.data.coldstart.endpoint import Server
from visionr1.data.coldstart.evaluation_sets import EvaluationSets
from visionr1.data.coldstart.filters import Kept, Rejection, SameAnswer
from visionr1.data.coldstart.outcomes import Outcomes
from visionr1.data.coldstart.output import write_samples
from visionr1.data.coldstart.summary import card
from visionr1.data.coldstart.tally import Tally
from visionr1.data.coldstart.teacher import TeacherClient
from visionr1.data.coldstart.templates import load_templates
from visionr1.data.coldstart.work import WorkLog
from visionr1.data.readers import load_problems
from visionr1.data.rows import Row
from visionr1.errors import BadInput, Stopped
from visionr1.progress import progress
from visionr1.recipe.coldstart import ColdStart
from visionr1.recipe.phases import COLDSTART_PHASE
from visionr1.recipe.schema import Recipe
from visionr1.rundir.coldstart import ColdStartReport, TeacherUse, commit, is_committed, read_report, write_report
from visionr1.rundir.layout import COLDSTART_CARD, COLDSTART_MANIFEST, COLDSTART_REPORT
from visionr1.storage import Store

Publish = Callable[[dict[str, Any]], None]
WHERE: Final = {"phase": COLDSTART_PHASE, "stage": None}


def run_coldstart(
    recipe: Recipe,
    store: Store,
    same_answer: SameAnswer,
    should_stop: Callable[[], bool],
    resolve_url: Callable[[str], str] = lambda url: url,
    publish: Publish = lambda _: None,
    workers: Mapping[str, Sequence[Server]] = {},
) -> ColdStartReport:
    """Makes the cold-start data of a run (section 3.3.1) and commits it with a manifest; returns the report.

    Committed data is left as it is. `same_answer` compares (answer, true answer) pairs; `resolve_url` turns a teacher's
    base_url into an address that can be called (for `demo://teacher`). `publish` gets the numbers for metrics, keyed as in
    `visionr1.metrics`. `workers` are the servers of the job itself, by the name of their teacher.

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
    publish(WHERE | {"coldstart_problems": len(rows), "started_timestamp_seconds": time.time()})
    with (
        closing(WorkLog(store, patience=coldstart.patience_seconds)) as work,
        Outcomes(len(rows), coldstart.keep_wrong) as outcomes,
    ):
        bridge = _bridge(recipe, coldstart, work, resolve_url, workers)
        asyncio.run(ask_all(bridge, rows, outcomes, same_answer, should_stop, lambda now: publish(WHERE | now)))
        return _write(store, coldstart, rows, outcomes, bridge, should_stop, publish)


def _bridge(
    recipe: Recipe,
    coldstart: ColdStart,
    work: WorkLog,
    resolve_url: Callable[[str], str],
    workers: Mapping[str, Sequence[Server]],
) -> Bridge:
    describer, reasoner = (
        TeacherClient(f"coldstart.{name}", teacher, coldstart, resolve_url, workers.get(name, ()))
        for name, teacher in (("describer", coldstart.describer), ("reasoner", coldstart.reasoner))
    )
    templates = load_templates(coldstart.prompts_dir)
    return Bridge(
        coldstart, recipe.model, templates, describer, reasoner, work, EvaluationSets(coldstart.filters.evaluation_sets)
    )


def _write(
    store: Store,
    coldstart: ColdStart,
    rows: Sequence[Row],
    outcomes: Outcomes,
    bridge: Bridge,
    should_stop: Callable[[], bool],
    publish: Publish,
) -> ColdStartReport:
    """Writes and commits what was kept."""
    tally, use = (
        Tally(coldstart.problems.path),
        {name: _use(client) for name, client in (("describer", bridge.describer), ("reasoner", bridge.reasoner))},
    )
    if not outcomes.kept:
        report = tally.report(outcomes, bridge.asked, bridge.reused, use)
        write_report(store, report)
        reasons = ", ".join(f"{count} x {rule}" for rule, count in report.rejected.items())
        example = next(iter(report.examples.values()))
        raise BadInput(f"none of the {report.problems} problems became a sample ({reasons}); {example.id}: {example.excerpt}")
    threshold = coldstart.filters.near_duplicates
    duplicates = None if threshold is None else Duplicates(threshold)
    with progress("writing samples", len(rows)) as advance:

        def look(some: Sequence[Outcome]) -> Sequence[Outcome]:
            if should_stop():
                raise Stopped("stopped while writing samples; the replies are kept")
            advance(len(some))
            return [one for one in some if duplicates is None or not _repeats(one, duplicates, outcomes)]

        for sample in write_samples(store, rows, outcomes, outcomes.several_images > 0, look):
            tally.add(sample)
    report = tally.report(outcomes, bridge.asked, bridge.reused, use)
    store.write_bytes(COLDSTART_CARD, card(report, tally, coldstart, bridge.templates.digests()).encode())
    write_report(store, report)
    publish(WHERE | {"coldstart_kept": report.kept, "coldstart_dropped": report.rejected})
    commit(store, report.kept)
    return report


def _repeats(outcome: Outcome, duplicates: Duplicates, outcomes: Outcomes) -> bool:
    """Whether a chain nearly repeats one before it; then it is counted as dropped."""
    if not isinstance(outcome.result, Kept):
        return False
    before = duplicates.add(outcome.row_id, outcome.result.thought)
    if before is not None:
        outcomes.drop(outcome, Rejection("near duplicate", f"of {before}: {outcome.result.thought[:200]}"))
    return before is not None


def _use(client: TeacherClient) -> TeacherUse:
    return TeacherUse(prompt_tokens=client.prompt_tokens, reply_tokens=client.reply_tokens, cost=client.cost)
