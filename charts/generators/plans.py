"""docs/plans.md: the plan of every preset, as `visionr1 plan` prints it; and what the chart's notes say of its presets."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, Final

import yaml
from ptst_operator.spec import Spec, resolve_recipe
from rich.console import Console

from generators import CHART, made_from
from visionr1.capacity.cards import CARDS
from visionr1.capacity.model import find_model_sizes
from visionr1.capacity.plan import default_fleet, plan_run
from visionr1.cli_plan import screen
from visionr1.recipe import Recipe, load_recipe, preset_names, preset_text
from visionr1.recipe.document import merge

_WIDTH: Final = 110
_PAGE: Final = """
# Plans

This page shows what `visionr1 plan` expects of each preset before a GPU is taken: whether it fits, how long it takes, and what
it needs.

```sh
visionr1 plan vision-r1                                    # the paper's recipe on the paper's GPUs
visionr1 plan vision-r1 --gpus 8xA100 --price 1.8          # on other GPUs, and what it costs
visionr1 plan vision-r1 --lengths 1300,2000                # with other mean lengths of completions in the stages
visionr1 plan demo --data demo://digits/train --json       # with prompts as large as those of a data set, as JSON
visionr1 plan vision-r1 --gpus '8x{memory: 80, tflops: 989, bandwidth: 3.35, link: 900}'      # a card that is not in the list
```

For a run that has begun, it shows the plan, with the lengths that were really sampled, beside the seconds that its steps measure,
and names the part that is farthest from its floor:

```sh
visionr1 plan --run runs/demo
```

`visionr1 run` and the operator refuse a run that surely does not fit on its GPUs, before anything starts. `preflight: warn` in
the recipe lets it start all the same. The operator reads the GPUs from the node selector of the workers' pods
(`nvidia.com/gpu.product`). Without one, it refuses only what fits on no card below. `kubectl get ptst -o wide` shows the hours
that are left: as planned, if that node selector is there, and from measured steps as soon as there are some. The notes of the
chart say how many GPUs and nodes, how much host memory and storage, and which quota of Kueue the chosen values need.

`visionr1 plan` needs neither torch nor a GPU. It ends with 1 if the run does not fit, and then lists the changes that make it
fit, those that cost least first. A model's sizes come from its `config.json`: of a local directory, or of what `hf download` has
cached. Those of Qwen2.5-VL are known.

## What the figures are

- *Memory* is counted item by item for each moment of a phase (`visionr1/capacity/memory.py`). A phase fits if each moment leaves
  8 % of the GPU free. Weights, gradients and optimiser states are compared with the bytes of real engines in the tests. What
  CUDA, NCCL and vLLM take is an estimate.
- *floor* is the least time that the card needs (roofline): FLOPs by its peak, or bytes by its bandwidth, whichever takes longer.
- *seconds* are what is expected: the floor by the part of the peak that is usually reached, recomputation, exchanges between
  ranks, ranks that wait for fuller ones, and fixed times (`visionr1/capacity/pace.py`). **No GPU has run this project yet**, so
  these are estimates. They are held against published figures:

| published | what it is | planned |
|---|---|---|
| EasyR1, 7B, 8 x H100 | 120 s per step | within 30 % with its settings |
| EasyR1, 7B, 8 x L20 | 580 s per step | within 30 % with its settings |
| Vision-R1, SFT, 32 x H800 | about 10 hours | within a factor of 1.5 |
| Vision-R1, GRPO, 64 x H800 | about 2 days | within a factor of 1.5, for a trainer of that time |

The paper's trainer was an early EasyR1. The plan reaches its two days with what that version did: every sequence padded to the
longest prompt and completion, four updates per batch, an MFU of 13.6 %, vLLM's first engine, and a validation every fifth step.
Here prompts are shared and rows are packed, so the plan of the same stages on the same GPUs is much shorter (see
[vision-r1](#vision-r1)). On a CPU, one constant was calibrated and steps of five shapes were
[measured](results/2026-11-28-plan.md): the plan is 17 % below to 20 % above them.

- *Lengths* are those of the paper's curves (its repository's figure `exploration.png`), until a run has steps of its own.
  They are spread up to the limit, so that each step waits for a few completions of full length.
- The last line of a plan names the assumption that the hours hang on most.

## Cards

Published peaks, dense bfloat16. The project has not run on any of them yet. Nothing here was written for AMD.

"""


def plans_page() -> str:
    """The page, as Markdown."""
    cards = "| card | GiB for a process | TFLOP/s | TB/s | GB/s in the node | source |\n|---|---|---|---|---|---|\n"
    for card in CARDS:
        figures = f"{card.gib} | {card.flops / 1e12:,.4g} | {card.bandwidth / 1e12:.4g} | {card.link / 1e9:,.0f}"
        cards += f"| {card.name} | {figures} | {card.source} |\n"
    plans = "".join(map(_plan, preset_names()))
    return f"<!-- {made_from('charts/generators/plans.py and visionr1/capacity')} -->{_PAGE}{cards}\n{plans}".rstrip() + "\n"


def _plan(preset: str) -> str:
    recipe = load_recipe(preset)
    console = Console(file=io.StringIO(), width=_WIDTH, color_system=None, force_terminal=False)
    console.print(screen(plan_run(recipe, find_model_sizes(recipe.model), default_fleet(recipe))))
    assert isinstance(console.file, io.StringIO)
    text = "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()).strip()
    about = preset_text(preset).splitlines()[0].removeprefix("# ")
    return f"## {preset}\n\n{about}\n\n```\n{text}\n```\n\n"


def needs_file() -> str:
    """What the chart's notes look up, as YAML: Helm can compare values, and cannot plan a run."""
    presets = {name: _left_to(load_recipe(name)) for name in preset_names()}
    runs = [_needs(path) for path in (None, *sorted((CHART / "presets").glob("*.yaml")))]
    found = [run for number, run in enumerate(runs) if run not in runs[:number]]
    lines = [f"# {made_from('visionr1/capacity')}", "presets:"]
    lines += [f"  {name}: {json.dumps(values)}" for name, values in presets.items()]
    return "\n".join([*lines, "runs:", *(f"  - {json.dumps(run)}" for run in found)]) + "\n"


def _left_to(recipe: Recipe) -> dict[str, Any]:
    """The values of a preset that a chart's run may leave to it."""
    processes = recipe.sft.processes if recipe.sft else 0
    workers = recipe.rollout.workers if recipe.stages else 0
    cpu = recipe.rollout.device == "cpu"
    return {"base": recipe.model.base, "workers": workers, "processes": processes, "cpu": cpu}


def _needs(path: Path | None) -> dict[str, Any]:
    """Of the chart's values, with one of its presets."""
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    if path is not None:
        values = merge(values, yaml.safe_load(path.read_text(encoding="utf-8")))
    run = _without_null({key: value for key, value in values["run"].items() if key not in ("enabled", "name")})
    spec = Spec.model_validate(run)
    recipe = resolve_recipe(spec, "run")
    assert spec.recipe is not None
    sft_gpus = spec.sft.nodes * recipe.sft.processes if recipe.sft else None
    plan = plan_run(recipe, find_model_sizes(recipe.model), default_fleet(recipe), sft_gpus=sft_gpus)
    return {
        "preset": spec.recipe["preset"],
        "base": recipe.model.base,
        "workers": recipe.rollout.workers if recipe.stages else 0,
        "sft": sft_gpus or 0,
        "fits": plan.fits,
        "hostGib": round(plan.host_gib),
        "storageTib": round(plan.disk.directory / 2**40, 4),
        "hours": round(plan.seconds / 3600, 1),
    }


def _without_null(node: Any) -> Any:
    """As Helm merges: a null takes the chart's default away."""
    return {key: _without_null(value) for key, value in node.items() if value is not None} if isinstance(node, dict) else node
