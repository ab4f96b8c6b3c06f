from collections.abc import Iterator

import pytest

from visionr1.recipe.reward import Reward
from visionr1.reward import Grader


@pytest.fixture(scope="session")
def grader() -> Iterator[Grader]:
    with Grader(Reward(processes=2, seconds_per_answer=20)) as grader:
        yield grader
