"""Benchmarks and scoring: pass@1 on held-out problems, for every model of a run or for any model."""

from visionr1.evaluate.phase import run, run_model
from visionr1.evaluate.problems import EvaluatedModel, evaluate_problems
from visionr1.evaluate.scoring import Score

__all__ = ["EvaluatedModel", "Score", "evaluate_problems", "run", "run_model"]
