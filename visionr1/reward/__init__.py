"""What is good: reading and comparing an answer, the hard reward of section 3.4, and the grading pool."""

from visionr1.reward.grader import Grader
from visionr1.reward.hfrrf import Grade

__all__ = ["Grade", "Grader"]
