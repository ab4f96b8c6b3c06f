from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionr1.data.badrow import BadRow
from visionr1.data.fingerprint import difference, digest, fingerprint
from visionr1.data.rows import Row, Sample
from visionr1.data.sampler import PromptSampler, shuffled
from visionr1.data.verdicts import fingerprint_of, joined, read_verdicts, write_verdicts
from visionr1.errors import BadInput

ROWS = [Row(f"r{n}", f"<image>Question {n}?", (bytes([n]),), str(n)) for n in range(4)]
MARK = fingerprint(map(digest, ROWS))


@given(st.integers(1, 60), st.integers(0, 2**31 - 1), st.lists(st.integers(0, 90), max_size=8))
@settings(deadline=None)
def test_every_epoch_holds_each_row_once(n_rows: int, seed: int, draws: list[int]) -> None:
    sampler = PromptSampler(n_rows, seed, MARK)
    drawn = [row for k in draws for row in sampler.next(k)]
    assert len(drawn) == sum(draws)
    for begin in range(0, len(drawn), n_rows):
        epoch = drawn[begin : begin + n_rows]
        assert len(set(epoch)) == len(epoch)
        assert epoch == shuffled(n_rows, seed, begin // n_rows)[: len(epoch)]


@given(st.integers(1, 40), st.integers(0, 10**6), st.lists(st.integers(0, 50), max_size=5), st.integers(1, 70))
@settings(deadline=None)
def test_a_resumed_sampler_goes_on_exactly(n_rows: int, seed: int, before: list[int], after: int) -> None:
    whole = PromptSampler(n_rows, seed, MARK)
    for k in before:
        whole.next(k)
    resumed = PromptSampler(n_rows, seed, MARK, json.loads(json.dumps(whole.state)))
    assert resumed.next(after) == whole.next(after)
    assert resumed.state == whole.state


def test_a_sampler_resumed_at_the_border_of_an_epoch_begins_the_next_one() -> None:
    whole = PromptSampler(8, 1, MARK)
    assert whole.next(8) == shuffled(8, 1, 0)
    border = whole.state
    assert (border["epoch"], border["index"]) == (0, 8)
    resumed = PromptSampler(8, 1, MARK, border)
    assert resumed.next(3) + resumed.next(5) == shuffled(8, 1, 1)


def test_samples_for_sft_that_changed_are_noticed_and_damaged_ones_are_no_change(tmp_path: Path) -> None:
    samples = [Sample(row.id, row.problem, row.images, f"<answer>{row.answer}</answer>") for row in ROWS]

    class Damaged(list[Sample]):
        def __getitem__(self, index: Any) -> Any:
            if index == 4:
                raise BadRow("r4", "image missing", "no file")
            return super().__getitem__(index)

    def read(all_samples: Sequence[Sample], readers: int = 1) -> str:
        shares = []
        for reader in range(readers):
            places = range(reader, len(all_samples), readers)
            write_verdicts(tmp_path / "rows.arrow", all_samples, places, lambda sample: None, "reading samples", {})
            shares.append(read_verdicts(tmp_path / "rows.arrow"))
            (tmp_path / "rows.arrow").unlink()
        return fingerprint_of(joined(shares))

    mark = read(samples)
    assert mark == fingerprint(map(digest, samples)) == read(samples, readers=3)
    assert read(Damaged([*samples, samples[0]]), readers=2) == mark
    other = [*samples[:3], replace(samples[3], response="<answer>7</answer>")]
    assert difference(mark, read(other)) == "other texts in the same number of rows"


def test_epochs_and_seeds_differ() -> None:
    orders = {tuple(shuffled(50, seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_the_order_never_changes_between_versions() -> None:
    assert shuffled(8, 1, 0) == [0, 4, 2, 7, 3, 5, 6, 1]


@pytest.mark.parametrize(
    ("now", "reported"),
    [
        (ROWS[:3], "4 rows before, 3 now"),
        ([replace(ROWS[0], answer="9"), *ROWS[1:]], "other texts in the same number of rows"),
        ([replace(ROWS[0], images=(b"!",)), *ROWS[1:]], "other images in"),
        ([replace(ROWS[0], id="new"), *ROWS[1:]], "other ids in"),
        (ROWS[::-1], "other ids, texts, images in"),
    ],
)
def test_changed_data_is_refused_and_the_change_named(now: list[Row], reported: str) -> None:
    state = PromptSampler(4, 1, MARK).state
    with pytest.raises(BadInput, match=reported):
        PromptSampler(len(now), 1, fingerprint(map(digest, now)), state)


def test_changed_seed_is_refused() -> None:
    with pytest.raises(BadInput, match="began with seed 1, but the recipe has 2; set it to 1 again"):
        PromptSampler(4, 2, MARK, PromptSampler(4, 1, MARK).state)


def test_no_rows_are_refused() -> None:
    with pytest.raises(BadInput, match="has no usable row"):
        PromptSampler(0, 1, MARK)


def test_parts_of_a_row_do_not_run_into_one_another() -> None:
    assert digest(Row("a", "bc", (), "d")).texts != digest(Row("a", "b", (), "cd")).texts
    assert digest(Row("a", "q", (b"12", b"3"), "d")).images != digest(Row("a", "q", (b"1", b"23"), "d")).images
    assert difference(MARK, MARK) == ""


def test_a_place_past_the_end_of_the_data_is_refused() -> None:
    """A draw from there would never end."""
    with pytest.raises(BadInput, match=r"^data\.train has 6 rows, and this run's checkpoint says that 7 were drawn$"):
        PromptSampler(6, 1, "rows=6", {"seed": 1, "epoch": 0, "index": 7, "fingerprint": "rows=6"})
