"""What becomes of samples: packed, or left out by name; and how many steps there are, how fast."""

import io
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from visionr1.data.rows import Sample
from visionr1.data.sampler import PromptSampler
from visionr1.errors import BadInput
from visionr1.model.chat import PromptBuilder
from visionr1.model.load import load_model
from visionr1.preflight.base import base_dir
from visionr1.recipe.phases import sft_steps
from visionr1.recipe.schema import SFT, Model
from visionr1.sft.batches import make_batch
from visionr1.sft.schedule import learning_rate, step_samples, what_is_made

MODEL = Model(base="demo", dtype="float32", min_pixels=784, max_pixels=50176, gradient_checkpointing=False)

Tools = tuple[PromptBuilder, torch.nn.Module]


@pytest.fixture(scope="module")
def tools() -> Tools:
    return PromptBuilder(base_dir(MODEL), MODEL), load_model(base_dir(MODEL), MODEL, torch.device("cpu")).model


def sample(name: str, response: str = "<think> Left 3. </think><answer> Final Answer:3 </answer>", good: bool = True) -> Sample:
    data = io.BytesIO()
    Image.new("RGB", (56, 56), "white").save(data, "PNG")
    return Sample(name, "<image>What is the largest digit?", (data.getvalue() if good else b"no picture",), response)


def test_good_samples_are_packed_and_their_responses_are_the_targets(tools: Tools) -> None:
    batch = make_batch([sample("a"), sample("b", "short"), sample("c")], [0, 1, 2], *tools, cutoff=512, budget=90)
    assert batch.left_out == []
    assert batch.targets == sum(len(row.targets_N) for row in batch.rows)
    assert len(batch.rows) > 1
    eos = tools[0].eos_token_ids[0]
    assert [int(row.targets_N[-1]) for row in batch.rows] == [eos] * len(batch.rows)


def test_the_sequences_of_a_packed_row_can_be_told_apart(tools: Tools) -> None:
    alone = [make_batch([one], [0], *tools, cutoff=512, budget=512).rows[0] for one in (sample("a"), sample("b", "short"))]
    together = make_batch([sample("a"), sample("b", "short")], [0, 1], *tools, cutoff=512, budget=512)
    lengths = [[span.length for span in row.spans.spans] for row in together.rows]
    assert lengths == [sorted((row.input_ids_1T.shape[1] for row in alone), reverse=True)]


def test_long_and_damaged_samples_are_left_out_by_name(tools: Tools) -> None:
    samples = [sample("good"), sample("long", "x " * 900), sample("broken", good=False)]
    batch = make_batch(samples, [0, 1, 2], *tools, cutoff=512, budget=512)
    assert len(batch.rows) == 1
    assert "long" in batch.left_out[0] and "over sft.cutoff_tokens (512)" in batch.left_out[0]
    assert batch.left_out[1].startswith("sample 2: not a known image")


def test_a_rank_whose_samples_all_fall_out_still_has_a_row_but_no_targets(tools: Tools) -> None:
    samples = [sample("broken", good=False), sample("good")]
    batch = make_batch(samples, [0], *tools, cutoff=512, budget=512)
    assert (len(batch.rows), batch.targets, len(batch.left_out)) == (1, 0, 1)


def test_data_without_one_usable_sample_is_refused(tools: Tools) -> None:
    with pytest.raises(BadInput, match="none of the 1 samples for SFT can be used; the last one: sample 0"):
        make_batch([sample("broken", good=False)], [0], *tools, cutoff=512, budget=512)


def test_steps_follow_epochs_and_their_limit() -> None:
    assert sft_steps(SFT(epochs=2, global_batch_size=32), 260_994) == 16_313
    assert sft_steps(SFT(epochs=2, global_batch_size=32, max_steps=100), 260_994) == 100
    assert sft_steps(SFT(epochs=1, global_batch_size=32), 3) == 1


@given(st.integers(1, 200), st.integers(1, 64), st.floats(0.1, 5))
def test_every_sample_is_drawn_as_often_as_there_are_epochs(samples: int, batch: int, epochs: float) -> None:
    sft = SFT(epochs=epochs, global_batch_size=batch)
    sampler = PromptSampler(samples, 1, "")
    steps = range(1, sft_steps(sft, samples) + 1)
    sizes = [step_samples(sft, samples, step) for step in steps]
    drawn = Counter(index for size in sizes for index in sampler.next(size))
    assert drawn.total() == max(1, round(epochs * samples))
    assert all(size == batch for size in sizes[:-1]) and 1 <= sizes[-1] <= batch
    assert max(drawn.values()) - min(drawn.get(index, 0) for index in range(samples)) <= 1


@pytest.mark.parametrize(
    ("sft", "samples", "line"),
    [
        (SFT(epochs=1, global_batch_size=4), 10, "SFT: 10 samples, 3 steps of 4, the last of 2: 1 epochs"),
        (SFT(epochs=2, global_batch_size=32), 3, "SFT: 3 samples, 1 steps of 6: 2 epochs"),
        (SFT(epochs=2, global_batch_size=5), 10, "SFT: 10 samples, 4 steps of 5: 2 epochs"),
        (
            SFT(epochs=7, global_batch_size=32, max_steps=300),
            2208,
            "SFT: 2208 samples, 300 steps of 32: 4.348 epochs of 7, because of sft.max_steps",
        ),
    ],
)
def test_what_is_made_is_said(sft: SFT, samples: int, line: str) -> None:
    assert what_is_made(sft, samples) == line


def test_learning_rate_warms_up_and_falls_to_zero() -> None:
    sft = SFT(learning_rate=1.0, warmup_ratio=0.05)
    rates = [learning_rate(sft, step, 100) for step in range(1, 101)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[-1] == pytest.approx(0.0, abs=1e-9)
