"""One engine of each kind for the whole folder: a start of vLLM takes ten seconds."""

import copy
from collections.abc import Iterator

import pytest
import torch
from rollout_pair import ENGINES, Pair, make_pair

from visionr1.preflight.base import base_dir
from visionr1.recipe import load_recipe


@pytest.fixture(scope="session")
def pairs() -> dict[str, tuple[Pair, dict[str, torch.Tensor]]]:
    return {}


@pytest.fixture(params=ENGINES)
def pair(request: pytest.FixtureRequest, pairs: dict[str, tuple[Pair, dict[str, torch.Tensor]]]) -> Iterator[Pair]:
    """The pair of an engine; engine and policy have the demo's base weights again."""
    if request.param not in pairs:
        made = make_pair(request.param)
        pairs[request.param] = made, copy.deepcopy(made.policy.inner.state_dict())
    pair, weights = pairs[request.param]
    yield pair
    pair.policy.inner.lm_head.temperature = 1.0
    pair.policy.inner.load_state_dict(weights)
    pair.engine.load(base_dir(load_recipe("demo").model))
