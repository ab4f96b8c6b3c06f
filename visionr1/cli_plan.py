"""`visionr1 plan`: what a run needs, before a GPU is taken."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from visionr1.capacity.cards import DESCRIBED, Fleet, parse_fleet
from visionr1.capacity.lengths import CHARACTERS, assumed_sizes
from visionr1.capacity.measured import Compared, PhaseMeasured, compare, sizes_of_run
from visionr1.capacity.model import find_model_sizes
from visionr1.capacity.phases import PhasePlan
from visionr1.capacity.plan import RunPlan, default_fleet, plan_run
from visionr1.cli_look import SetOption
from visionr1.errors import BadInput
from visionr1.recipe import Recipe, load_recipe

MOMENTS = ("rollout", "update", "step", "save")
"""Moments whose items are shown; the fullest one is shown in any case."""
_SHOWN = 0.05
"""Least GiB that one decimal shows."""


def plan(
    recipe: Annotated[
        str | None,
        typer.Argument(help="A preset's name, or the path of a recipe file. Leave it out with --run.", metavar="[RECIPE]"),
    ] = None,
    set_: SetOption = None,
    gpus: Annotated[
        str | None,
        typer.Option(
            help=f"GPUs of the stages: 64xH800, or '8x{DESCRIBED}'. Default: the recipe's workers, on H800 as in the paper.",
            metavar="NUMBERxCARD",
        ),
    ] = None,
    price: Annotated[float | None, typer.Option(help="Price of a GPU for an hour.", min=0)] = None,
    lengths: Annotated[
        str | None,
        typer.Option(help="Mean completion tokens: one number, or one for each stage (1300,2000).", metavar="TOKENS"),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Problems whose pictures and texts give the size of prompts.", metavar="DATA")
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            "--run",
            help="A run that has begun: what was planned beside what its steps measure.",
            metavar="DIR",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole plan as JSON.")] = False,
) -> None:
    """Plan a run: does it fit, how long does it take, what does it cost. Needs no GPU.

    Ends with 0 if the run fits, and with 1 if it does not; then the changes that make it fit are listed.
    """
    if (recipe is None) == (run is None):
        raise BadInput("give one of the two: a recipe (visionr1 plan RECIPE), or a run that has begun (visionr1 plan --run DIR)")
    if run is not None:
        _compared(run, None if gpus is None else parse_fleet(gpus), as_json=as_json)
        return
    chosen, fleet = _with_workers(load_recipe(str(recipe), set_ or ()), None if gpus is None else parse_fleet(gpus))
    sizes = assumed_sizes(chosen)
    if data is not None:
        from visionr1.data.sizes import mean_tokens

        prompt, image = mean_tokens(chosen, data, CHARACTERS)
        sizes = sizes.with_prompts(prompt, image)
    if lengths is not None:
        sizes = sizes.with_lengths(_lengths(lengths, chosen))
    made = plan_run(chosen, find_model_sizes(chosen.model), fleet, sizes, price)
    if as_json:
        typer.echo(json.dumps(to_json(made), indent=1))
    else:
        Console().print(screen(made))
    if not made.fits:
        raise typer.Exit(1)


def _compared(run: str, fleet: Fleet | None, *, as_json: bool) -> None:
    """Prints a run's plan, with the lengths that it has sampled, beside its steps."""
    from visionr1.rundir.recipe import read_recipe
    from visionr1.rundir.steplog import read_steps
    from visionr1.storage import open_store

    store = open_store(run)
    recipe, fleet = _with_workers(read_recipe(store), fleet)
    records = read_steps(store)
    made = plan_run(recipe, find_model_sizes(recipe.model), fleet, sizes_of_run(recipe, records))
    phases = [found for phase in made.phases if (found := compare(phase, records)) is not None]
    if not phases:
        raise BadInput(f"{run}: no step is logged yet, so there is nothing to compare; visionr1 plan RECIPE plans without steps")
    if as_json:
        typer.echo(json.dumps([asdict(phase) for phase in phases], indent=1))
    else:
        Console().print(comparison(made, phases))


def comparison(made: RunPlan, phases: list[PhaseMeasured]) -> Group:
    """Planned and measured seconds for people."""
    parts: list[Any] = [Text(f"{made.name}: {made.model} on {made.fleet}, planned and measured", style="bold")]
    for phase in phases:
        table = Table(box=None, pad_edge=False)
        table.add_column("  seconds of a step")
        for name in ("planned", "measured", "ratio", "floor"):
            table.add_column(name, justify="right")
        total = Compared("together", sum(p.planned for p in phase.parts), sum(p.measured for p in phase.parts), 0.0)
        for part in (*phase.parts, total):
            ratio = f"{part.measured / part.planned:.2f}" if part.planned else ""
            floor = f"{part.floor:,.2f}" if part.floor else ""
            table.add_row(f"  {part.part}", f"{part.planned:,.2f}", f"{part.measured:,.2f}", ratio, floor)
        parts += [Text(), Text(f"{phase.title}, {_many(phase.steps, 'step', 'steps')}", style="bold"), table]
        if phase.farthest is not None:
            far = phase.farthest
            parts.append(
                _point(f"Farthest from its floor: {far.part}, {far.measured - far.floor:,.2f} s above {far.floor:,.2f} s.")
            )
    return Group(*parts)


def _with_workers(recipe: Recipe, fleet: Fleet | None) -> tuple[Recipe, Fleet]:
    """The recipe with a worker for each GPU.

    Raises:
        BadInput: the recipe's prompts cannot be shared out to so many.
    """
    if fleet is None:
        return recipe, default_fleet(recipe)
    if not recipe.stages:
        return recipe, fleet
    if recipe.algorithm.prompts_per_step % fleet.count:
        raise BadInput(
            f"--gpus: {fleet.count} GPUs cannot share out the {recipe.algorithm.prompts_per_step} prompts of a step "
            "(algorithm.prompts_per_step); give a number that divides it"
        )
    workers = recipe.rollout.model_copy(update={"workers": fleet.count})
    return recipe.model_copy(update={"rollout": workers}), fleet


def _lengths(text: str, recipe: Recipe) -> list[float]:
    try:
        given = [float(one) for one in text.split(",")]
    except ValueError:
        given = []
    limits = [stage.max_completion_tokens for stage in recipe.stages]
    if not given or len(given) > max(len(limits), 1):
        raise BadInput(f"--lengths: {text!r}: give one number of tokens, or one for each of the {len(limits)} stages")
    for place, limit in enumerate(limits):
        mean = given[min(place, len(given) - 1)]
        if not 1 <= mean <= limit:
            raise BadInput(f"--lengths: {mean:g} is not between 1 and the {limit} tokens of stage {place + 1}")
    return given


def to_json(made: RunPlan) -> dict[str, Any]:
    """All fields and the totals, as JSON types."""
    totals = {"seconds": made.seconds, "gpu_hours": made.gpu_hours, "tokens": made.tokens, "fits": made.fits}
    phases = [
        asdict(phase) | {"step_seconds": phase.step_seconds, "seconds": phase.seconds, "gpu_hours": phase.gpu_hours}
        for phase in made.phases
    ]
    return asdict(made) | totals | {"host_gib": made.host_gib, "phases": phases}


def screen(made: RunPlan) -> Group:
    """The plan for people."""
    parts: list[Any] = [Text(f"{made.name}: {made.model} on {made.fleet}", style="bold"), Text(), *_verdict(made), Text()]
    parts += [_overview(made), Text()]
    for phase in made.phases:
        parts += [*_phase(phase, made), Text()]
    parts += [Text("Assumed", style="bold"), *(_point(line) for line in made.assumptions)]
    parts += [Text(), Text(f"The hours hang most on {made.hinge}.")]
    return Group(*parts)


def _verdict(made: RunPlan) -> list[Text]:
    cost = "" if made.price is None else f" that cost {made.price:,.0f}"
    hours = f"{made.gpu_hours:,.0f}" if made.gpu_hours >= 10 else f"{made.gpu_hours:.1f}"
    lines = [
        Text(
            f"{_duration(made.seconds)}, {hours} GPU-hours{cost}; {_count(made.tokens)} tokens. "
            f"{'It fits.' if made.fits else 'It does not fit: see below.'}",
            style="green" if made.fits else "red",
        )
    ]
    disk = made.disk
    lines.append(
        Text(
            f"The run directory has {_bytes(disk.directory)} at its end. {_bytes(disk.written)} are written to it and "
            f"{_bytes(disk.read)} read from it, over the network if it is on S3."
        )
    )
    if made.host_gib:
        gpus = _many(min(made.fleet.count, made.fleet.per_node), "GPU", "GPUs")
        lines.append(Text(f"A node with {gpus} needs up to {made.host_gib:,.0f} GiB of host memory."))
    return lines


def _overview(made: RunPlan) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("phase", no_wrap=True)
    for name in ("GPUs", "GiB per GPU", "of", "steps", "s/step", "time", "GPU-hours"):
        table.add_column(name, justify="right", no_wrap=True)
    for phase in made.phases:
        fit = phase.fit
        style = "red" if fit is not None and not fit.fits else ""
        table.add_row(
            phase.title,
            str(phase.gpus or ""),
            f"{fit.tightest.gpu_total:.1f}" if fit else "",
            f"{fit.limit:.1f}" if fit else "",
            f"{phase.steps:,}" if phase.steps else "",
            f"{phase.step_seconds:,.1f}" if phase.steps else "",
            _duration(phase.seconds) if phase.steps else "",
            f"{phase.gpu_hours:,.1f}" if phase.steps else "",
            style=style,
        )
    return table


def _phase(phase: PhasePlan, made: RunPlan) -> list[Any]:
    lines: list[Any] = [Text(phase.title, style="bold")]
    if phase.choice:
        lines.append(_point(phase.choice))
    lines += [_point(line) for line in phase.shape]
    if phase.remark:
        lines.append(_point(phase.remark))
    if phase.fit is not None and not phase.fit.fits:
        lines += _remedies(phase, made)
    if phase.parts:
        lines += [Text(), _seconds(phase)]
    if phase.fit is not None:
        lines += [Text(), _memory(phase, made)]
    return lines


def _remedies(phase: PhasePlan, made: RunPlan) -> list[Padding]:
    assert phase.fit is not None
    tightest = phase.fit.tightest
    item, size = max(tightest.gpu.items(), key=lambda pair: pair[1])
    lines = [
        _point(
            f"It does not fit: in the moment '{tightest.name}' a GPU needs {tightest.gpu_total:.1f} GiB of the "
            f"{phase.fit.limit:.1f} that may be used, most of it ({size:.1f}) for {item}.",
            "red",
        )
    ]
    offered = made.knobs.get(phase.name, ())
    if not offered:
        return [*lines, _point("No change that is known here makes it fit: take a smaller model or larger GPUs.", "red")]
    lines.append(_point("What makes it fit, by the GPU-hours of this phase:"))
    for knob in offered:
        other = "" if knob.same_training else ", but changes what is trained"
        lines.append(_point(f"  {knob.change}   ({knob.gpu_hours:,.0f} GPU-hours{other})"))
    return lines


def _seconds(phase: PhasePlan) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("  part of a step")
    for name in ("seconds", "floor", "share"):
        table.add_column(name, justify="right")
    for name, part in phase.parts.items():
        floor = f"{part.floor:,.2f}" if part.floor else ""
        table.add_row(f"  {name}", f"{part.expected:,.2f}", floor, f"{part.expected / phase.step_seconds:.0%}")
    return table


def _memory(phase: PhasePlan, made: RunPlan) -> Table:
    assert phase.fit is not None
    moments = {moment.name: moment for moment in phase.fit.moments}
    fullest = phase.fit.tightest.name
    shown = [fullest, *(name for name in MOMENTS if name in moments and name != fullest)]
    table = Table(box=None, pad_edge=False)
    table.add_column("  GiB per GPU, in the moment")
    for name in shown:
        table.add_column(name, justify="right")
    for place in ("gpu", "host"):
        held = {name: getattr(moments[name], place) for name in shown}
        items = list(dict.fromkeys(item for name in shown for item, size in held[name].items() if size >= _SHOWN))
        if place == "host":
            table.add_row(f"  GiB per node's host with {_many(min(phase.gpus, made.fleet.per_node), 'process', 'processes')}")
        for item in items:
            table.add_row(f"  {item}", *(_gib(held[name].get(item, 0.0)) for name in shown))
        total = [moments[name].gpu_total if place == "gpu" else moments[name].host_total for name in shown]
        table.add_row("  together", *(f"{size:,.1f}" for size in total), style="bold")
    return table


def _gib(size: float) -> str:
    return "" if size < _SHOWN else f"{size:,.1f}"


def _point(line: str, style: str = "") -> Padding:
    """Indented, also where it wraps."""
    return Padding(Text(line, style=style), (0, 0, 0, 2))


def _many(count: int, one: str, more: str) -> str:
    return f"{count:,} {one if count == 1 else more}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"


def _bytes(size: float) -> str:
    for unit, one in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= one:
            return f"{size / one:,.1f} {unit}"
    return f"{size / 1e6:.1f} MB"


def _count(number: float) -> str:
    for word, one in ((" billion", 1e9), (" million", 1e6)):
        if number >= one:
            return f"{number / one:,.1f}{word}"
    return f"{number:,.0f}"
