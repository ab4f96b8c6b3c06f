"""Commands of `visionr1` that look closer: recipes, data, grading, evaluation."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from visionr1.errors import BadInput
from visionr1.recipe import Phase, Recipe, amounts, json_schema, load_recipe, phases, preset_names, preset_text, to_yaml, warnings
from visionr1.recipe.messages import describe
from visionr1.recipe.paths import written_out
from visionr1.recipe.schema import SFT
from visionr1.recipe.source import Columns, Source
from visionr1.storage import open_store

if TYPE_CHECKING:
    from visionr1.data.check import CheckReport
    from visionr1.model.chat import PromptBuilder

RecipeArgument = Annotated[str, typer.Argument(help="A preset's name, or the path of a recipe file.", metavar="RECIPE")]
DecidedOption = Annotated[
    str | None,
    typer.Option(
        help="Act on the recipe with this SHA-256 in the run directory's folder `recipes`, where the operator puts it.",
        metavar="HEX",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change one value, such as `--set stages.0.steps=5` or `--set sft=null`. You may repeat it."),
]

ImageRootOption = Annotated[
    str | None, typer.Option("--image-root", help="Directory that DATA's image paths are relative to.", metavar="DIR")
]
ColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        help="Where DATA has a field: problem, answer, images, options, conversations or response. You may repeat it.",
        metavar="FIELD=COLUMN",
    ),
]

recipe_app = typer.Typer(no_args_is_help=True, help="Look at recipes, presets and the schema.")
data_app = typer.Typer(no_args_is_help=True, help="Check data before a run takes GPUs.")


def chain(recipe: Recipe) -> str:
    """The phases of a recipe in a line."""
    from visionr1.pipeline.display import title

    return " > ".join(title(phase) for phase in phases(recipe))


@recipe_app.command()
def show(recipe: RecipeArgument, set_: SetOption = None) -> None:
    """Print a recipe with all its values, also the defaults, as YAML."""
    typer.echo(to_yaml(load_recipe(recipe, set_ or ())), nl=False)


@recipe_app.command()
def check(
    recipe: RecipeArgument,
    set_: SetOption = None,
    deep: Annotated[
        bool,
        typer.Option(
            "--deep",
            help="Look at this machine, too, as `visionr1 run` does before its first phase: model, data files, lengths, Ray's "
            "settings. Downloads nothing.",
        ),
    ] = False,
) -> None:
    """Check a recipe: list all mistakes, then what differs from the paper's method."""
    from visionr1.preflight.check import recipe_faults

    checked = load_recipe(recipe, set_ or ())
    for line in warnings(checked):
        typer.echo(f"note: {line}", err=True)
    faults = recipe_faults(checked, phases(checked))
    if faults and not deep:
        raise BadInput("\n".join(faults))
    if deep:
        _look_deep(checked)
    typer.echo(f"{recipe}: good; {chain(checked)}")
    for line in amounts(checked):
        typer.echo(line)


def _look_deep(recipe: Recipe) -> None:
    from visionr1.preflight.base import base_on_this_machine
    from visionr1.preflight.check import check_run, notes, reads_base

    refuse_what_does_not_fit(recipe, phases(recipe))
    base = None
    if reads_base(recipe, phases(recipe)):
        base = base_on_this_machine(recipe.model)
        if base is None:
            typer.echo(f"note: model.base: {recipe.model.base} is not on this machine yet, so it was not looked at", err=True)
    for line in notes(recipe, phases(recipe), base):
        typer.echo(f"note: {line}", err=True)
    check_run(recipe, phases(recipe), base)


def refuse_what_does_not_fit(recipe: Recipe, chain: Sequence[Phase]) -> None:
    """Says what surely does not fit on this machine's GPUs, if the recipe's `preflight` is `warn`.

    Raises:
        BadInput: something does not fit, and `preflight` is `refuse`.
    """
    from visionr1.capacity.preflight import gpus_here, memory_faults

    processes = recipe.sft.processes if recipe.sft else None
    faults = memory_faults(recipe, chain, gpus_here(recipe, os.environ), processes)
    if faults and recipe.preflight == "refuse":
        raise BadInput("\n".join(faults))
    for line in faults:
        typer.echo(f"warning: {line}", err=True)


@recipe_app.command()
def presets(name: Annotated[str | None, typer.Argument(help="Print this preset, with its comments.")] = None) -> None:
    """List the presets, or print one to start your own recipe from."""
    if name is not None:
        typer.echo(preset_text(name), nl=False)
        return
    table = Table(box=None, show_header=False)
    for preset in preset_names():
        table.add_row(f"[bold]{preset}", preset_text(preset).splitlines()[0].removeprefix("# "))
    Console().print(table)


@recipe_app.command()
def schema() -> None:
    """Print the JSON Schema of recipe files, for editors."""
    typer.echo(json.dumps(json_schema(), indent=2))


@data_app.command("inspect")
def data_inspect(run: Annotated[str, typer.Argument(help="A run with cold-start data.", metavar="DIR")]) -> None:
    """Write one page about cold-start data: samples beside their pictures, what the filters dropped, lengths."""
    from visionr1.report.coldstart_page import write_page

    store = open_store(run)
    typer.echo(f"{store.url}/{write_page(store)}")


@data_app.command("check")
def data_check(
    path: Annotated[
        str | None,
        typer.Argument(
            help="What to check: a file, a directory, s3:// or hf://. Without it, all sources of the recipe.", metavar="[DATA]"
        ),
    ] = None,
    recipe: Annotated[
        str, typer.Option(help="Recipe with the image sizes and the prompt limit.", metavar="RECIPE")
    ] = "vision-r1",
    set_: SetOption = None,
    image_root: ImageRootOption = None,
    column: ColumnOption = None,
    limit: Annotated[int | None, typer.Option(help="Check only this many rows of DATA, from the first.", min=1)] = None,
    sft: Annotated[bool, typer.Option("--sft", help="DATA has chains of thought for SFT (conversations), not problems.")] = False,
    tokenizer: Annotated[
        bool,
        typer.Option("--tokenizer", help="Count the tokens of the text, too. Loads model.base, and downloads it if needed."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole result as JSON.")] = False,
) -> None:
    """Check every row: which rows can be trained on, which cannot, and what to do about them.

    Each row that cannot is a line; the last line counts. Ends with 0 if all rows are good, with 1 if some are left out, and
    with 64 if the data cannot be read at all.
    """
    chosen = load_recipe(recipe, set_ or ())
    own: dict[str, Source] = {}
    for source in (chosen.data.train, chosen.data.held_out, chosen.coldstart.problems if chosen.coldstart else None):
        if source is not None:
            own.setdefault(source.path, source)  # of an address that is named twice, the first is looked at
    sources = [(source, False) for source in own.values()]
    sources += [(chosen.sft.data, True)] if chosen.sft and chosen.sft.data else []
    if path is not None:
        sources = [(named_source(written_out(path, "DATA"), image_root, column, limit), sft)]
    elif image_root or column:
        raise BadInput("--image-root and --column are about DATA: name it, or set image_root and columns in the recipe")
    builder = _builder(chosen) if tokenizer else None
    clean = True
    for source, samples in sources:
        result = _checked(source, samples, chosen, builder)
        clean = clean and not result.bad
        if as_json:
            typer.echo(json.dumps({"path": source.path, **result.to_json()}, ensure_ascii=False))
        else:
            for line in result.lines():
                typer.echo(line)
            Console().print(result.table())
            typer.echo(f"{source.path}: {result.closing()}")
    if not clean:
        raise typer.Exit(1)


def named_source(path: str, image_root: str | None, column: list[str] | None, limit: int | None = None) -> Source:
    """The source that a command line describes; `column` has FIELD=COLUMN each."""
    root = image_root and written_out(image_root, "--image-root")
    columns: dict[str, str] = {}
    for assignment in column or ():
        field, equals, name = assignment.partition("=")
        if not equals:
            raise BadInput(f"--column {assignment}: write it as FIELD=COLUMN, such as problem=query")
        if field not in Columns.model_fields:
            raise BadInput(f"--column {assignment}: there is no field {field!r}; choose from {', '.join(Columns.model_fields)}")
        if field in columns:
            raise BadInput(f"--column {field} is given twice; a field is read from one column")
        columns[field] = name
    try:
        return Source(path=path, image_root=root, limit=limit, columns=Columns(**columns) if columns else None)
    except ValidationError as error:
        raise BadInput(f"--column: {describe(error.errors()[0])}") from None


def _checked(source: Source, samples: bool, recipe: Recipe, builder: PromptBuilder | None) -> CheckReport:
    from visionr1.data.check import check_problems, check_samples
    from visionr1.data.readers import load_problems, load_samples

    if samples:
        return check_samples(
            load_samples(source),
            min_pixels=recipe.model.min_pixels,
            max_pixels=recipe.model.max_pixels,
            cutoff_tokens=(recipe.sft or SFT()).cutoff_tokens,
            count_tokens=builder.count_sample_tokens if builder else None,
        )
    return check_problems(
        load_problems(source),
        min_pixels=recipe.model.min_pixels,
        max_pixels=recipe.model.max_pixels,
        max_prompt_tokens=recipe.data.max_prompt_tokens,
        count_prompt_tokens=builder.count_tokens if builder else None,
    )


def _builder(recipe: Recipe) -> PromptBuilder:
    from visionr1.model.chat import PromptBuilder
    from visionr1.preflight.base import base_dir

    return PromptBuilder(base_dir(recipe.model), recipe.model)


def doctor(
    recipe: Annotated[
        str | None,
        typer.Argument(
            help="A preset's name, or the path of a recipe file. Default: `vision-r1` where a GPU is, else `demo`.",
            metavar="[RECIPE]",
        ),
    ] = None,
    set_: SetOption = None,
    seconds: Annotated[float, typer.Option(help="Time for the checks that train and sample.", min=1)] = 120.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as one JSON document at the end.")] = False,
    log: Annotated[
        Path | None, typer.Option(help="Write what the libraries print to this file.", metavar="FILE", show_default=False)
    ] = None,
) -> None:
    """See whether this machine can train and sample, in about two minutes, before a run takes its GPUs.

    One line per check: good, bad with what to do, or not seen. Ends with 1 if anything is bad. Downloads nothing: the model has
    random weights, on a CPU it is the demo's.
    """
    from visionr1.doctor import examine
    from visionr1.doctor.finding import closing
    from visionr1.doctor.machine import ask_driver

    name = recipe or ("vision-r1" if isinstance(ask_driver(), list) else "demo")
    findings = examine(
        load_recipe(name, set_ or ()), seconds, log, lambda finding: None if as_json else typer.echo(finding.line())
    )
    if as_json:
        typer.echo(json.dumps([finding.to_json() for finding in findings], indent=2, ensure_ascii=False))
    else:
        typer.echo(f"{name}: {closing(findings)}")
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(1)


def watch(
    run: Annotated[
        str,
        typer.Argument(
            help="The run directory (a local path, or s3://bucket/prefix), or ptst/NAME for a run on a cluster.", metavar="RUN"
        ),
    ],
    once: Annotated[bool, typer.Option("--once", help="Print once and end. A pipe does the same.")] = False,
    every: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.2)] = 2.0,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Namespace of ptst/NAME. Default: the context's.", metavar="NAME")
    ] = None,
    context: Annotated[
        str | None, typer.Option(help="Context of kubectl's configuration. Default: the current one.", metavar="NAME")
    ] = None,
) -> None:
    """Watch a run: phase, progress, reward, length, tokens/s, time left, problems. Ctrl-C ends the view, and the run goes on."""
    from visionr1.storage import open_store
    from visionr1.watch.look import look
    from visionr1.watch.ptst import PREFIX, PtstRun
    from visionr1.watch.screen import watch as show_run

    if run.startswith(PREFIX):
        looking = PtstRun(run, namespace, context).look
    elif namespace or context:
        raise BadInput(f"{run}: --namespace and --context are for a run on a cluster, ptst/NAME")
    else:
        looking = partial(look, open_store(run))
    show_run(looking, Console(), once=once, every=every)


def grade(
    file: Annotated[
        Path,
        typer.Argument(
            help="JSON lines with `response`, `answer` and, for a multiple choice, `options` (or `choices`).",
            metavar="FILE.jsonl",
        ),
    ],
    reward: Annotated[str, typer.Option(help="hfrrf, zero, or file.py:function.")] = "hfrrf",
    seconds: Annotated[float, typer.Option(help="Time limit per answer.", min=0.01)] = 5.0,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show for each response how both sides were read, in place of JSON.")
    ] = False,
) -> None:
    """Grade responses as training does: one JSON line each on stdout, the means on stderr.

    Each line says which rule decided (`rule`, see docs/reward.md); with --explain a block of lines shows both sides as read.
    """
    from visionr1.recipe.reward import Reward
    from visionr1.reward.grade_file import grade_file

    grades = grade_file(file, Reward(function=reward, seconds_per_answer=seconds), typer.echo, explain)
    for line in grades.bad_lines:
        typer.echo(line, err=True)
    typer.echo(
        f"{grades.rows} graded: reward {grades.overall:.3f}, format {grades.format:.3f}, accuracy {grades.accuracy:.3f}; "
        f"{len(grades.bad_lines)} lines could not be read",
        err=True,
    )
    if grades.bad_lines:
        raise typer.Exit(1)
