"""The command `visionr1`: reads the command line, calls one function, prints. Heavy modules are imported when needed."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from typer.core import TyperGroup

from visionr1.cli_eval import evaluate
from visionr1.cli_look import (
    DecidedOption,
    SetOption,
    chain,
    data_app,
    doctor,
    grade,
    recipe_app,
    refuse_what_does_not_fit,
    watch,
)
from visionr1.cli_plan import plan
from visionr1.errors import (
    EXIT_BAD_INPUT,
    EXIT_FAILED,
    EXIT_FENCED,
    EXIT_STOPPED,
    BadInput,
    Fenced,
    Stopped,
    Unreachable,
    printable,
)
from visionr1.recipe import Phase, Recipe, load_recipe, parse_recipe, phases, to_yaml, warnings
from visionr1.rundir.layout import RECIPE
from visionr1.rundir.lock import phase_lock
from visionr1.storage import NotFound, StorageError, open_store
from visionr1.version import version_line

EXIT_INTERRUPTED: Final = 130
RUNS: Final = "Runs"
LOOK: Final = "Looking closer"
PHASES: Final = "Single phases (visionr1 run does them all)"


class _Commands(TyperGroup):
    """Shows errors that a person can act on as one line, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BadInput as error:
            raise _ended(str(error), EXIT_BAD_INPUT) from None
        except Stopped as stopped:
            raise _ended(str(stopped), EXIT_STOPPED) from None
        except Fenced as fenced:
            raise _ended(str(fenced), EXIT_FENCED) from None
        except (StorageError, NotFound, Unreachable) as error:
            raise _ended(str(error), EXIT_FAILED) from None
        except ModuleNotFoundError as error:
            if error.name is None or error.name.startswith("visionr1"):
                raise
            extras = "visionr1-ptst[data] reads, grades and reports, [train] trains, [demo] does all that the demo needs"
            raise _ended(f"{error.name} is not installed, and this needs it: {extras}", EXIT_BAD_INPUT) from None
        except KeyboardInterrupt:
            raise _ended("interrupted", EXIT_INTERRUPTED) from None


def _ended(message: str, code: int) -> typer.Exit:
    typer.echo(printable(message, keep="\n"), err=True)
    return typer.Exit(code)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="""Vision-R1: teach a vision-language model to reason, from a laptop's CPU to a GPU cluster.

A *recipe* describes a run. A *run directory* has everything that the run writes. Begin with `visionr1 demo`. Then write your own
recipe from a preset (`visionr1 recipe presets`) and start it with `visionr1 run`.""",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(version_line())
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and its commit.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    """Takes the options that come before a command."""
    from visionr1.preflight.machine import keep_own_direct
    from visionr1.signals import end_on_sigterm

    keep_own_direct(os.environ)
    end_on_sigterm(os.getpid(), EXIT_STOPPED)


RunOption = Annotated[
    str,
    typer.Option(
        "--run", help="The run directory: a local path, or s3://bucket/prefix on a cluster.", metavar="DIR", show_default=False
    ),
]
StopOption = Annotated[
    str | None,
    typer.Option(help="Stop as soon as possible when a file with this key is in the run directory.", metavar="KEY"),
]


class Variant(StrEnum):
    """What the paper compares (table 3)."""

    ptst = "ptst"
    zero = "zero"
    long = "long"
    ci = "ci"


class Engine(StrEnum):
    """recipe `rollout.engine`."""

    vllm = "vllm"
    hf = "hf"


EngineOption = Annotated[
    Engine | None,
    typer.Option("--rollout", help="Sample with vLLM, or with transformers where vLLM cannot be installed.", show_default=False),
]


@app.command(rich_help_panel=RUNS)
def demo(
    variant: Annotated[
        Variant,
        typer.Option(help="`ptst`: the whole recipe. `zero`: no cold start. `long`: full length from the start. `ci`: no GRPO."),
    ] = Variant.ptst,
    quick: Annotated[
        bool, typer.Option("--quick", help="A few steps per phase. Shows that everything works, not that it learns.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed for the order of the data and for sampling.", min=0)] = 1,
    run: Annotated[
        str | None,
        typer.Option("--run", help="Run directory, a local one; default: runs/NAME.", metavar="DIR", show_default=False),
    ] = None,
    rollout: EngineOption = None,
) -> None:
    """Run the whole recipe on this machine's CPU with a tiny model and no downloads.

    A tiny Qwen2.5-VL learns to add digits in a picture: cold-start data, SFT, GRPO in stages, evaluation, report. After an
    interruption, the same command goes on where it was.
    """
    recipe = load_recipe("demo" if variant is Variant.ptst else f"demo-{variant}", [f"seed={seed}", *_engine(rollout)])
    recipe = _quick(recipe) if quick else recipe
    _run(recipe, run or f"runs/{recipe.name}")


def _quick(recipe: Recipe) -> Recipe:
    """The same phases with a few steps each."""
    coldstart, sft, held_out = recipe.coldstart, recipe.sft, recipe.data.held_out
    return recipe.model_copy(
        update={
            "name": f"{recipe.name}-quick",
            "coldstart": coldstart
            and coldstart.model_copy(update={"problems": coldstart.problems.model_copy(update={"limit": 200})}),
            "sft": sft and sft.model_copy(update={"max_steps": 12}),
            "data": recipe.data.model_copy(update={"held_out": held_out and held_out.model_copy(update={"limit": 32})}),
            "stages": tuple(stage.model_copy(update={"steps": max(2, stage.steps // 12)}) for stage in recipe.stages),
        }
    )


@app.command(rich_help_panel=RUNS)
def run(
    recipe: Annotated[
        str | None,
        typer.Argument(
            help="A preset's name, or the path of a recipe file. Leave it out to go on with the run in --run.", metavar="[RECIPE]"
        ),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option("--run", help="Run directory, a local one; default: runs/NAME.", metavar="DIR", show_default=False),
    ] = None,
    set_: SetOption = None,
    rollout: EngineOption = None,
) -> None:
    """Run a recipe on this machine, or go on with a run.

    Phases run one after the other, each in its own process. A phase that fails is tried again from its last checkpoint.
    Ctrl-C commits a checkpoint and stops. The same command goes on from there. You may add stages to a finished run.
    """
    overrides = [*(set_ or ()), *_engine(rollout)]
    if recipe is not None:
        chosen = load_recipe(recipe, overrides)
    elif run is not None:
        from visionr1.rundir.recipe import read_recipe

        chosen = parse_recipe(to_yaml(read_recipe(open_store(run))), f"{run}/{RECIPE}", overrides, Path.cwd())
    else:
        raise BadInput(
            "no recipe and no run: give a recipe to start (visionr1 run RECIPE), or a run to continue (visionr1 run --run DIR)"
        )
    _run(chosen, run or f"runs/{chosen.name}")


def _engine(rollout: Engine | None) -> list[str]:
    return [] if rollout is None else [f"rollout.engine={rollout}"]


def _run(recipe: Recipe, run_dir: str) -> None:
    from visionr1.pipeline.local import run_local
    from visionr1.preflight.base import base_dir
    from visionr1.preflight.check import check_run, notes, reads_base
    from visionr1.reward import Grader
    from visionr1.rundir.recipe import refuse_planted_reward

    console = Console(stderr=True)
    waiting = _waiting(recipe, run_dir)
    refuse_what_does_not_fit(recipe, waiting)  # first of all: what does not fit needs no download
    base = base_dir(recipe.model) if reads_base(recipe, waiting) else None
    for line in (*warnings(recipe), *notes(recipe, waiting, base)):
        typer.echo(f"note: {line}", err=True)
    check_run(recipe, waiting, base)
    refuse_planted_reward(open_store(run_dir), recipe)
    Grader(recipe.reward).close()  # Reports a broken reward file now, not after the cold start.
    typer.echo(f"{recipe.name} in {run_dir}: {chain(recipe)}", err=True)
    code = run_local(recipe, run_dir, console=console)
    if code != 0:
        raise typer.Exit(code)
    _report(run_dir)


def _waiting(recipe: Recipe, run_dir: str) -> list[Phase]:
    """The phases that are not done yet."""
    from visionr1.rundir.committed import committed

    store = open_store(run_dir)
    if store.local_path(RECIPE) is None:
        return []  # run_local refuses such a place
    return [phase for phase in phases(recipe) if not committed(store, phase).complete]


@app.command(rich_help_panel=RUNS)
def report(
    runs: Annotated[list[str], typer.Argument(help="The run directory, finished or not.", metavar="DIR")],
    compare: Annotated[bool, typer.Option("--compare", help="Draw several runs in one picture, with a table.")] = False,
    paper: Annotated[bool, typer.Option("--paper", help="With --compare: the paper's printed curves as faint lines.")] = False,
    out: Annotated[Path, typer.Option(help="With --compare: the page to write.", metavar="FILE")] = Path("compared.html"),
) -> None:
    """Write report.html and summary.json of a run, and show what happened; with --compare one page about several runs."""
    if compare:
        _compare(runs, paper, out)
        return
    if len(runs) > 1 or paper:
        raise BadInput("a report is about one run; to see several in one picture, write visionr1 report --compare DIR DIR")
    _report(runs[0])


def _compare(runs: list[str], paper: bool, out: Path) -> None:
    from visionr1.report.compare import compared_page, compared_table, read_runs

    read = read_runs([open_store(run) for run in runs])
    try:
        out.write_text(compared_page(read, paper), encoding="utf-8")
    except OSError as error:
        raise BadInput(f"--out {out}: cannot be written: {error.strerror}") from None
    Console().print(compared_table(read))
    typer.echo(f"the figures, to open in a browser, are in {out}")


def _report(run_url: str) -> None:
    from visionr1.report import terminal_summary, write_report

    store = open_store(run_url)
    write_report(store)
    Console().print(terminal_summary(store))


@app.command(rich_help_panel=PHASES)
def coldstart(run: RunOption, stop_when: StopOption = None, recipe_sha256: DecidedOption = None) -> None:
    """Write cold-start data with the recipe's two teachers (modality bridging)."""
    from visionr1 import coldstart as phase

    phase.run(run, stop_when, recipe_sha256)


@app.command(rich_help_panel=PHASES)
def sft(run: RunOption, recipe_sha256: DecidedOption = None) -> None:
    """Fine-tune on the cold-start data, from the last checkpoint if there is one. Starts torchrun itself."""
    from visionr1.sft import launch

    with phase_lock(open_store(run), recipe_sha256):
        launch.run(run, recipe_sha256)


@app.command(rich_help_panel=PHASES)
def grpo(
    run: RunOption,
    stage: Annotated[int, typer.Option(help="Number of the stage, from 1.", min=1, show_default=False)],
    stop_when: StopOption = None,
    recipe_sha256: DecidedOption = None,
) -> None:
    """Train one GRPO stage, from its last checkpoint if there is one, else from the phase before it."""
    from visionr1.grpo import driver

    with phase_lock(open_store(run), recipe_sha256):
        driver.run(run, stage, stop_when, recipe_sha256)


app.add_typer(recipe_app, name="recipe", rich_help_panel=LOOK)
app.add_typer(data_app, name="data", rich_help_panel=LOOK)
app.command(rich_help_panel=RUNS)(plan)
app.command(rich_help_panel=RUNS)(watch)
app.command(rich_help_panel=LOOK)(doctor)
app.command(rich_help_panel=LOOK)(grade)
app.command("eval", rich_help_panel=LOOK)(evaluate)


def main() -> None:
    """Entry point of the installed command."""
    sys.exit(app())


if __name__ == "__main__":
    main()
