"""When engine and trainer are compared, what is allowed between them, and the message if they differ more."""

import math
from collections.abc import Sequence

import pytest

from visionr1.grpo.parity import LARGEST, LIMITS, Gap, Probe, fault, probe_sampling, probe_stats
from visionr1.grpo.schedule import probe_due
from visionr1.recipe import load_recipe

NEAR, FAR = Gap(1e-6, 1e-5), Gap(1e-2, 1e-1)
WELL = {"logprob_mismatch": 1e-6, "logprob_mismatch_max": 1e-5}


def reported(probes: Sequence[Probe] = (), *settings: str, **stats: float) -> str | None:
    return fault(load_recipe("demo", list(settings)), WELL | stats, probes)


def test_engines_that_agree_pass() -> None:
    assert reported() is reported([Probe(NEAR, NEAR)]) is None


def test_words_that_differ_point_to_the_weights_and_the_temperature() -> None:
    found = reported([Probe(NEAR, NEAR), Probe(FAR, FAR)])
    assert found and "by 0.01 on average and 0.1 at most" in found
    assert "rollout.mismatch_limit allows 3e-05 (0.003 for one token)" in found
    assert "does not serve the trained weights" in found and "rollout.temperature" in found
    assert "\n" not in found


def test_pictures_alone_that_differ_point_to_embeddings_and_positions() -> None:
    found = reported([Probe(FAR, NEAR)])
    assert found and "image embeddings" in found and "mm_token_type_ids" in found
    assert "temperature" not in found


def test_rollouts_that_differ_ask_for_probes() -> None:
    found = reported(logprob_mismatch=1e-2)
    assert found and "in this step's rollouts" in found and "rollout.parity_every=1" in found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_limits_are_the_dtypes_and_a_mean_hides_no_token(dtype: str) -> None:
    limit = LIMITS[dtype]
    chosen = f"model.dtype={dtype}"
    just = Gap(0.99 * limit, 0.99 * LARGEST * limit)
    assert reported([Probe(just, just)], chosen) is None
    for gap in (Gap(1.01 * limit, limit), Gap(0.0, 1.01 * LARGEST * limit), Gap(math.nan, math.nan), Gap(0.0, math.inf)):
        assert reported([Probe(gap, NEAR)], chosen), gap
        assert reported([], chosen, logprob_mismatch=gap.mean, logprob_mismatch_max=gap.largest), gap


def test_the_recipes_limit_comes_before_the_dtypes() -> None:
    assert reported([Probe(FAR, FAR)], "rollout.mismatch_limit=0.1") is None
    assert reported([Probe(NEAR, NEAR)], "rollout.mismatch_limit=1.0e-7")


def test_a_nucleus_may_raise_log_probs_by_what_it_cuts_off_but_not_in_a_probe() -> None:
    cut = -math.log(0.9)
    assert reported([], "rollout.top_p=0.9", logprob_mismatch=cut) is None
    assert reported([], "rollout.top_p=0.9", logprob_mismatch=cut + 2e-4)
    assert probe_sampling(load_recipe("demo", ["rollout.top_p=0.9", "rollout.temperature=0.7"])).top_p == 1.0
    assert probe_sampling(load_recipe("demo", ["rollout.temperature=0.7"])).temperature == 0.7


def test_a_stages_first_step_is_probed_and_every_tenth_after_it() -> None:
    assert [step for step in range(1, 33) if probe_due(step, 10)] == [1, 11, 21, 31]
    assert all(probe_due(step, 1) for step in range(1, 5))


def test_the_record_has_the_worst_workers_figures() -> None:
    probes = [Probe(Gap(1.0, 2.0), Gap(0.5, 9.0)), Probe(Gap(3.0, 4.0), Gap(0.0, 0.0))]
    assert probe_stats(probes) == {"parity_probe_mean": 3.0, "parity_probe_max": 9.0}
