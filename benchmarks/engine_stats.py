"""What vLLM's own statistics cost a rollout: the same prompts with and without them, in turns, on one tiny engine.

    python benchmarks/engine_stats.py [--rounds 8]

CPU seconds of the whole process, the least of all rounds of each kind, so that other work on the machine does not count. A
tiny model is the worst case: statistics cost the same for each token of any model, and a real model's token costs far more.
"""

import argparse
import json
import time
from typing import Any

from rich.console import Console

from visionr1.data.readers import load_problems
from visionr1.model.chat import PromptBuilder
from visionr1.model.load import base_dir
from visionr1.recipe import load_recipe
from visionr1.rollout.build import build_engine
from visionr1.rollout.types import Sampling


def switch(engine: Any, loggers: Any, on: bool) -> None:
    """As `disable_log_stats` would have set the engine up."""
    inner = engine._llm.llm_engine
    inner.log_stats = inner.output_processor.log_stats = on
    inner.engine_core.engine_core.scheduler.log_stats = on
    inner.logger_manager = loggers if on else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=8)
    rounds = parser.parse_args().rounds
    recipe = load_recipe("demo")
    builder = PromptBuilder(base_dir(recipe.model), recipe.model)
    engine: Any = build_engine(base_dir(recipe.model), recipe, builder, max_model_len=512)
    loggers = engine._llm.llm_engine.logger_manager
    rows = load_problems(recipe.data.train)
    prompts = [builder.build(rows[index]) for index in range(8)]
    sampling = Sampling(n=16, max_tokens=48, temperature=1.0)
    taken: dict[bool, list[float]] = {True: [], False: []}
    for number in range(2 * rounds + 2):
        on = number % 2 == 0
        switch(engine, loggers, on)
        begun = time.process_time()
        engine.generate(prompts, sampling, list(range(8)))
        if number >= 2:  # the first of each kind warms up
            taken[on].append(time.process_time() - begun)
    switch(engine, loggers, True)
    read = []
    for _ in range(20):
        begun = time.process_time()
        engine.live()
        read.append(time.process_time() - begun)
    result = {
        "rollout_cpu_seconds": {"without": min(taken[False]), "with": min(taken[True])},
        "cost": min(taken[True]) / min(taken[False]) - 1,
        "read_cpu_ms": 1000 * min(read),
    }
    Console(stderr=True).print(
        f"with statistics {result['cost']:+.2%} CPU a rollout; reading them {result['read_cpu_ms']:.1f} ms"
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
