"""`visionr1 run` for runs that are shot at all the time: the same runner, with short waits and more patience.

Usage: go.py RUN [SETTING]...
"""

from __future__ import annotations

import sys

from visionr1.pipeline.local import run_local
from visionr1.pipeline.planner import Retry
from visionr1.recipe import load_recipe

if __name__ == "__main__":
    sys.exit(run_local(load_recipe("demo", sys.argv[2:]), sys.argv[1], retry=Retry(10, first_wait=0.1, longest_wait=0.1)))
