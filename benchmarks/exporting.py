"""What exporting costs the demo's rollouts: the same prompts with a scraped exporter and without, in turns, on one engine.

    python benchmarks/exporting.py [--rounds 40] [--scrapes 1]

CPU seconds of the whole process, both ends of every scrape among them; medians of the rounds of each kind. A rollout is some
quarter of a step and exporting is all in it here, so a step's own share is smaller; and the tiny model is the worst case, for a
real one's tokens cost a thousand times as much.
"""

import argparse
import json
import statistics
import threading
import time
import urllib.request
from contextlib import closing

from rich.console import Console

from visionr1.data.readers import load_problems
from visionr1.metrics import Exporter
from visionr1.model.chat import PromptBuilder
from visionr1.preflight.base import base_dir
from visionr1.recipe import load_recipe
from visionr1.recipe.schema import Metrics
from visionr1.rollout.build import build_engine
from visionr1.rollout.types import Sampling


class Scraper(threading.Thread):
    """Reads /metrics again and again while it is let."""

    def __init__(self, port: int, every: float) -> None:
        super().__init__(daemon=True)
        self._url, self._every, self.on = f"http://127.0.0.1:{port}/metrics", every, threading.Event()

    def run(self) -> None:
        while True:
            self.on.wait()
            with urllib.request.urlopen(self._url, timeout=10) as answer:  # noqa: S310 - our own address
                answer.read()
            time.sleep(self._every)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--scrapes", type=float, default=1.0, help="A second; Prometheus' default is one in 15 to 60 seconds.")
    options = parser.parse_args()
    recipe = load_recipe("demo")
    builder = PromptBuilder(base_dir(recipe.model), recipe.model)
    engine = build_engine(base_dir(recipe.model), recipe, builder, max_model_len=512, gpu_share=0.6)
    rows = load_problems(recipe.data.train)
    prompts = [builder.build(rows[index]) for index in range(recipe.algorithm.prompts_per_step // 2)]
    stage = recipe.stages[0]
    sampling = Sampling(n=stage.group_size, max_tokens=stage.max_completion_tokens, temperature=1.0)
    taken: dict[bool, list[float]] = {True: [], False: []}
    with closing(Exporter(Metrics(port=0), "worker", "demo", stage.max_completion_tokens)) as exporter:
        exporter.read_at_scrape(engine.live)
        assert exporter.port
        scraper = Scraper(exporter.port, 1 / options.scrapes)
        scraper.start()
        for number in range(2 * options.rounds + 2):
            on = number % 2 == 0
            (scraper.on.set if on else scraper.on.clear)()
            begun = time.process_time()
            groups = engine.generate(prompts, sampling, list(range(len(prompts))))
            if on:  # what a driver serves; a worker serves only a part of it
                lengths = [len(one.token_ids) for group in groups for one in group.completions]
                exporter.update({"phase": "stage-1", "stage": 1, "step": number, "reward_mean": 0.5, "loss": 0.1})
                exporter.observe("completion_tokens", lengths)
            if number >= 2:  # the first of each kind warms up
                taken[on].append(time.process_time() - begun)
    result = {
        "completions": len(prompts) * stage.group_size,
        "scrapes_per_second": options.scrapes,
        "rollout_cpu_seconds": {"without": statistics.median(taken[False]), "with": statistics.median(taken[True])},
        "cost": statistics.median(taken[True]) / statistics.median(taken[False]) - 1,
    }
    Console(stderr=True).print(f"exporting {result['cost']:+.2%} CPU of a rollout of {result['completions']} completions")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
