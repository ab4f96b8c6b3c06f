"""One GRPO update gives the same loss, gradient and weights however ranks, ZeRO and micro-batches divide it."""

import pytest
from engine_ranks import COMPLETIONS, Case, Outcome, policy_weights, relative, run_cases
from ranks import run_ranks

TOLERANCE = 1e-6
"""Relative, in float32: of each statistic, and of all gradients and of all weights as one vector each."""

SMALL_ROWS = ("optimiser.micro_batch_tokens=64",)
TWO_UPDATES = ("algorithm.updates_per_batch=2",)
NO_REFERENCE = ("algorithm.kl_beta=0",)
PLAIN = "model.attention=plain"
BOTH = ("shared", "plain")
LONG, SHORT = [0, 4, 8, 1, 2, 3, 5, 6], [7, 9, 10, 11]
"""The long completions are on the first rank, so it has more micro-batches than the second."""
TEXT_ALONE = [list(range(8)), list(range(8, COMPLETIONS))]
"""The second rank has no picture."""
SHUFFLED = [7, 2, 11, 0, 5, 9, 3, 8, 1, 10, 6, 4]
"""Completions of one prompt are apart, so a row has some of its pictures and the next row has them again."""
HALVES = [[0, 4, 8, 1, 5, 6], [7, 9, 10, 2, 3, 11]]
HALVES_AS_ONE = [[0, 4, 8, 7, 9, 10, 1, 5, 6, 2, 3, 11]]
"""With two updates each rank's first half is one update: the same two updates as this order on a single rank."""

SILENT = (0, 1, 2, 3, 9, 10, 11)
"""Completions without a signal: of the two halves of the batch, the first has few others, of [SILENT, OTHERS] it has none."""
OTHERS = [4, 5, 6, 7, 8]
ALL_PASSED = ("algorithm.kl_beta=1e-30",)
"""A KL term that changes nothing but lets every completion through the policy."""


def zero(stage: int) -> tuple[str, ...]:
    return (f"optimiser.zero_stage={stage}",)


ONE_RANK = [
    Case("one"),
    Case("one, ZeRO 1", settings=zero(1)),
    Case("one, ZeRO 3", settings=zero(3)),
    *(Case(f"one, rows of {size}", settings=(f"optimiser.micro_batch_tokens={size}",)) for size in (64, 150, 100_000)),
    Case("one, shuffled", [SHUFFLED], ("optimiser.micro_batch_tokens=150",)),
    Case("one, features not shared", shared=False),
    *(Case(f"one, {attention}", settings=(f"model.attention={attention}",)) for attention in ("plain", "sdpa")),
    *(Case(f"one, checkpointing {on}", settings=(f"model.gradient_checkpointing={on}",)) for on in ("true", "false")),
    *(Case(f"one, no reference, {attention}", settings=(*NO_REFERENCE, f"model.attention={attention}")) for attention in BOTH),
    Case("one, sequence mean", settings=("algorithm.loss_aggregation=sequence_mean",)),
    Case("one, two updates", shares=HALVES_AS_ONE, settings=TWO_UPDATES),
    Case("one, silent", settings=NO_REFERENCE, silent=SILENT),
    Case("one, silent, all passed", settings=ALL_PASSED, silent=SILENT),
    Case("one, frozen tower", settings=("optimiser.freeze_vision_tower=true",)),
]
TWO_RANKS = [
    *(Case(f"two, ZeRO {stage}", settings=zero(stage)) for stage in (1, 2, 3)),
    *(Case(f"unequal, ZeRO {stage}", [LONG, SHORT], (*zero(stage), *SMALL_ROWS)) for stage in (1, 2, 3)),
    *(Case(f"no picture on one rank, ZeRO {stage}", TEXT_ALONE, zero(stage)) for stage in (2, 3)),
    *(Case(f"two, plain, ZeRO {stage}", [LONG, SHORT], (*zero(stage), *SMALL_ROWS, PLAIN)) for stage in (1, 2, 3)),
    *(Case(f"two, shuffled, ZeRO {stage}", [SHUFFLED[:5], SHUFFLED[5:]], (*zero(stage), *SMALL_ROWS)) for stage in (1, 2, 3)),
    Case("two, features not shared, ZeRO 3", [LONG, SHORT], zero(3), shared=False),
    Case("two, sequence mean", [LONG, SHORT], (*SMALL_ROWS, "algorithm.loss_aggregation=sequence_mean")),
    *(Case(f"two updates, ZeRO {stage}", HALVES, (*zero(stage), *TWO_UPDATES, *SMALL_ROWS)) for stage in (2, 3)),
    *(Case(f"two, silent, ZeRO {stage}", settings=(*zero(stage), *NO_REFERENCE), silent=SILENT) for stage in (2, 3)),
    Case("two, one silent", [list(SILENT), OTHERS], (*zero(2), *NO_REFERENCE, *SMALL_ROWS), silent=SILENT),
    Case("two, frozen tower", TEXT_ALONE, ("optimiser.freeze_vision_tower=true", *zero(3))),
]


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> str:
    return policy_weights(tmp_path_factory.mktemp("policy"))


@pytest.fixture(scope="module")
def outcomes(policy: str) -> dict[str, Outcome]:
    single: dict[str, Outcome]
    [single] = run_ranks(run_cases, 1, ONE_RANK, policy, seconds=240)
    first, _ = run_ranks(run_cases, 2, TWO_RANKS, policy, seconds=240)
    return single | first


PAIRS = [
    ("one, ZeRO 1", "one"),
    ("one, ZeRO 3", "one"),
    *((f"one, rows of {size}", "one") for size in (64, 150, 100_000)),
    ("one, shuffled", "one"),
    ("one, features not shared", "one"),
    *((f"one, {attention}", "one") for attention in ("plain", "sdpa")),
    *((f"one, checkpointing {on}", "one") for on in ("true", "false")),
    ("one, no reference, shared", "one, no reference, plain"),
    *((f"two, ZeRO {stage}", "one") for stage in (1, 2, 3)),
    *((f"two, plain, ZeRO {stage}", "one") for stage in (1, 2, 3)),
    *((f"unequal, ZeRO {stage}", "one") for stage in (1, 2, 3)),
    *((f"no picture on one rank, ZeRO {stage}", "one") for stage in (2, 3)),
    *((f"two, shuffled, ZeRO {stage}", "one") for stage in (1, 2, 3)),
    ("two, features not shared, ZeRO 3", "one"),
    ("two, sequence mean", "one, sequence mean"),
    *((f"two updates, ZeRO {stage}", "one, two updates") for stage in (2, 3)),
    ("two, frozen tower", "one, frozen tower"),
]


@pytest.mark.parametrize(("name", "reference"), PAIRS)
def test_an_update_does_not_depend_on_how_it_is_divided(outcomes: dict[str, Outcome], name: str, reference: str) -> None:
    ours, theirs = outcomes[name], outcomes[reference]
    for key, expected in theirs.stats[0].items():
        if key == "idle_passes":  # how it is divided is what this counts
            continue
        assert ours.stats[0][key] == pytest.approx(expected, rel=TOLERANCE, abs=1e-9), key
    # The second update starts from weights that differ in their last bits, because AdamW's first step magnifies tiny gradients.
    tolerance = 10 * TOLERANCE if "two updates" in name else TOLERANCE
    assert relative(ours.moments, theirs.moments) <= tolerance, "gradient"
    assert relative(ours.weights, theirs.weights) <= TOLERANCE, "weights"


@pytest.mark.parametrize("name", ["one, silent", "two, silent, ZeRO 2", "two, silent, ZeRO 3", "two, one silent"])
def test_completions_without_a_signal_are_skipped_and_change_nothing(outcomes: dict[str, Outcome], name: str) -> None:
    ours, theirs = outcomes[name], outcomes["one, silent, all passed"]
    for key in ("loss", "grad_norm", "trained_tokens"):
        assert ours.stats[0][key] == pytest.approx(theirs.stats[0][key], rel=TOLERANCE), key
    assert relative(ours.moments, theirs.moments) <= TOLERANCE
    assert relative(ours.weights, theirs.weights) <= TOLERANCE


def test_passes_that_train_nothing_are_counted(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["one"].stats[0]["idle_passes"] == 0
    assert outcomes["unequal, ZeRO 2"].stats[0]["idle_passes"] > 0


def test_the_comparison_sees_a_small_difference(outcomes: dict[str, Outcome]) -> None:
    one = outcomes["one"]
    assert relative(one.moments, outcomes["one, sequence mean"].moments) > 1000 * TOLERANCE
    assert relative(one.weights, outcomes["one, frozen tower"].weights) > 1000 * TOLERANCE
