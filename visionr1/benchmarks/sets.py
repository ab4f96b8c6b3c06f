"""All benchmarks, by the names that recipes and commands use."""

from __future__ import annotations

from typing import Final

from visionr1.benchmarks.dynamath import DYNAMATH
from visionr1.benchmarks.mathverse import MATHVERSE
from visionr1.benchmarks.mathvision import MATHVISION
from visionr1.benchmarks.mathvista import MATHVISTA
from visionr1.benchmarks.mm_math import MM_MATH
from visionr1.benchmarks.problem import Benchmark
from visionr1.benchmarks.we_math import WE_MATH

BENCHMARKS: Final[dict[str, Benchmark]] = {
    one.name: one for one in (MATHVISTA, MATHVERSE, MM_MATH, MATHVISION, DYNAMATH, WE_MATH)
}
