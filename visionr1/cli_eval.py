"""`visionr1 eval`: scores of a run's models, or of any model, on held-out problems and published sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from visionr1.cli_look import ColumnOption, DecidedOption, ImageRootOption, SetOption, named_source
from visionr1.errors import BadInput
from visionr1.recipe import Recipe, load_recipe
from visionr1.recipe.evaluation import BENCHMARK_NAMES
from visionr1.recipe.paths import written_out
from visionr1.rundir.lock import phase_lock
from visionr1.storage import open_store

if TYPE_CHECKING:
    from visionr1.recipe.source import Source

ON_SETS = "Published sets"


def evaluate(  # noqa: PLR0913  one argument for each option
    model: Annotated[
        str | None, typer.Argument(help="A model to score without a run: a directory or a Hugging Face name.", metavar="[MODEL]")
    ] = None,
    run: Annotated[
        str | None,
        typer.Option("--run", help="Score the models of this run on its held-out problems.", metavar="DIR", show_default=False),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Problems for MODEL. Default: the recipe's held-out problems.", metavar="DATA")
    ] = None,
    image_root: ImageRootOption = None,
    column: ColumnOption = None,
    recipe: Annotated[str, typer.Option(help="Recipe with the evaluation, rollout and reward for MODEL.")] = "vision-r1",
    set_: SetOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write MODEL's scores and replies to this directory. With --benchmark the same directory goes on where it was; "
            "default: eval-MODEL.",
            metavar="DIR",
        ),
    ] = None,
    recipe_sha256: DecidedOption = None,
    greedy: Annotated[bool, typer.Option("--greedy", help="Always take the most likely token.")] = False,
    benchmark: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Score MODEL on these sets, NAME or NAME=PATH, with commas between them: {', '.join(BENCHMARK_NAMES)}.",
            metavar="NAMES",
            rich_help_panel=ON_SETS,
        ),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(help="OpenAI-compatible server that serves MODEL.", metavar="URL", rich_help_panel=ON_SETS),
    ] = None,
    endpoint_key_env: Annotated[
        str | None,
        typer.Option(help="Environment variable with the endpoint's API key.", metavar="NAME", rich_help_panel=ON_SETS),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(help="OpenAI-compatible server of the judge.", metavar="URL", rich_help_panel=ON_SETS),
    ] = None,
    judge_model: Annotated[
        str | None, typer.Option(help="The judge's name at that server.", metavar="NAME", rich_help_panel=ON_SETS)
    ] = None,
    judge_key_env: Annotated[
        str | None,
        typer.Option(help="Environment variable with the judge's API key.", metavar="NAME", rich_help_panel=ON_SETS),
    ] = None,
    trained_on: Annotated[
        list[str] | None,
        typer.Option(
            help="Problems that MODEL has learned from; those of a set that are among them are listed. You may repeat it.",
            metavar="DATA",
            rich_help_panel=ON_SETS,
        ),
    ] = None,
    drop_seen: Annotated[
        bool, typer.Option("--drop-seen", help="Leave such problems out of the score.", rich_help_panel=ON_SETS)
    ] = False,
) -> None:
    """Score the models of a run (--run DIR), or any model (MODEL), on held-out problems or on published sets (--benchmark)."""
    from visionr1 import evaluate as room

    if (model is None) == (run is None):
        raise BadInput("give one of the two: a model to score (visionr1 eval MODEL), or a run (visionr1 eval --run DIR)")
    if run is not None:
        if benchmark or endpoint or judge or judge_model or greedy or trained_on or drop_seen:
            raise BadInput("a run has its sets, judge and sampling in its recipe (evaluation): set them there")
        with phase_lock(open_store(run), recipe_sha256):
            room.run(run, recipe_sha256)
        return
    options = ["evaluation.temperature=0", "evaluation.top_p=1"] if greedy else []
    options += [f"evaluation.judge={judge_values(judge, judge_model, judge_key_env)}"] if judge or judge_model else []
    options += ["evaluation.drop_seen=true"] if drop_seen else []
    options += [f"evaluation.benchmarks={named_benchmarks(benchmark)}"] if benchmark else []
    chosen = load_recipe(recipe, [*(set_ or ()), *options])
    name = str(model) if endpoint else written_out(str(model), "MODEL")
    if benchmark:
        if data or image_root or column:
            raise BadInput("--data, --image-root and --column are about held-out problems, --benchmark about published sets")
        if drop_seen and not trained_on:
            raise BadInput("--drop-seen needs to know what MODEL has learned from: name it with --trained-on")
        sources = [named_source(written_out(one, "--trained-on"), None, None) for one in trained_on or ()]
        _on_sets(name, chosen, out, endpoint, endpoint_key_env, sources)
        return
    if endpoint or judge or judge_model or trained_on or drop_seen:
        raise BadInput("--endpoint, --judge, --trained-on and --drop-seen are for published sets: name some with --benchmark")
    source = named_source(written_out(data, "--data"), image_root, column) if data else chosen.data.held_out
    if data is None and (image_root or column):
        raise BadInput("--image-root and --column are about --data: give it, or set image_root and columns in the recipe")
    if source is None:
        raise BadInput(f"{recipe}: data.held_out is null: give the problems with --data")
    score = room.run_model(name, source, chosen, out).score
    error = "" if score.standard_error is None else f" +- {score.standard_error:.1%}"
    typer.echo(f"{model}: accuracy {score.accuracy:.1%}{error} on {score.problems} problem{'' if score.problems == 1 else 's'}")


def _on_sets(
    model: str, recipe: Recipe, out: Path | None, endpoint: str | None, key_env: str | None, trained_on: list[Source]
) -> None:
    """Scores on published sets, and shows them beside the paper's."""
    from visionr1.evaluate.published import Served, run_benchmarks
    from visionr1.report.benchmarks import benchmark_tables
    from visionr1.rundir.benchmark_scores import folder_name

    folder = out or Path(f"eval-{folder_name(model)}")
    served = None if endpoint is None else Served(endpoint, key_env)
    scores = run_benchmarks(model, recipe, folder, served, trained_on)
    console = Console()
    for part in benchmark_tables(scores):
        console.print(part)
    console.print(f"scores and replies are in {folder}", style="italic", soft_wrap=True)


def named_benchmarks(named: list[str]) -> str:
    """`mathvista,mathverse=/data/mv.parquet` as a value of the recipe, in JSON. Raises BadInput for a name that is no set."""
    found = []
    for one in (part.strip() for text in named for part in text.split(",")):
        name, _, path = one.partition("=")
        if name not in BENCHMARK_NAMES:
            raise BadInput(f"--benchmark {name}: no such set; there are {', '.join(BENCHMARK_NAMES)}")
        found.append({"name": name, "path": written_out(path, "--benchmark") if path else None})
    return json.dumps(found)


def judge_values(url: str | None, model: str | None, key_env: str | None) -> str:
    """The judge as a value of the recipe, in JSON. Raises BadInput if half of it is missing."""
    if url is None or model is None:
        raise BadInput("a judge needs both: --judge URL and --judge-model NAME")
    return json.dumps({"base_url": url, "model": model, "api_key_env": key_env})
