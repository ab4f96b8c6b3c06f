"""FLOPs against torch's own count of a real forward pass; floors against sums done by hand."""

from collections.abc import Callable

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import Qwen2_5_VLForConditionalGeneration

from visionr1.capacity.model import DEMO_BASE, read_model_sizes
from visionr1.capacity.work import ModelWork, Peak, Work, efficiency, model_work
from visionr1.model.device import device_peak
from visionr1.model.load import load_model
from visionr1.recipe import load_recipe

PLAIN = ModelWork(100, 10, 8, 4, 50, 6, 2, 4, element_bytes=2)


@pytest.fixture(scope="module")
def model() -> Qwen2_5_VLForConditionalGeneration:
    settings = load_recipe("demo").model.model_copy(update={"attention": "eager"})
    loaded: Qwen2_5_VLForConditionalGeneration = load_model(DEMO_BASE, settings, torch.device("cpu"))
    loaded.train(False)
    return loaded


def counted(call: Callable[[], object]) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def test_a_text_forward_is_what_torch_counts(model: Qwen2_5_VLForConditionalGeneration) -> None:
    length = 24
    work = model_work(read_model_sizes(DEMO_BASE), 4)
    real = counted(lambda: model(input_ids=torch.full((1, length), 20), use_cache=False))
    # Eager attention computes the pairs above the diagonal, too; rotary angles are a product with one factor of 1.
    unneeded = 4 * work.attention_width * (length * length - length * (length + 1) // 2)
    assert real == pytest.approx(work.text_flops([length], [[]], length) + unneeded, rel=0.001)


def test_a_vision_forward_is_what_torch_counts(model: Qwen2_5_VLForConditionalGeneration) -> None:
    work = model_work(read_model_sizes(DEMO_BASE), 4)
    pixels = torch.zeros(4 * 8, 3 * 2 * 14 * 14)
    real = counted(lambda: model.model.get_image_features(pixels, torch.tensor([[1, 4, 8]])))
    assert real == pytest.approx(work.vision_flops([32]), rel=0.03)  # at the picture's edge, windows are smaller


def test_an_update_is_three_forwards_and_one_for_the_reference() -> None:
    forward = PLAIN.text_flops([2, 4], [[1, 2], [3]], 6)
    assert forward == 2 * 100 * 12 + 2 * 10 * 6 + 4 * 8 * ((3 + 10) + (2 + 1) + (4 + 3) + (12 + 6))
    vision = PLAIN.vision_flops([8])
    assert vision == 2 * 50 * 8 + 4 * (6 * 64 + 2 * 8 * 4)
    assert PLAIN.update([2, 4], [[1, 2], [3]], [8], reference=False, vision_trained=True).flops == 3 * (forward + vision)
    assert PLAIN.update([2, 4], [[1, 2], [3]], [8], reference=True, vision_trained=False).flops == 4 * forward + 2 * vision


def test_decoding_reads_the_weights_as_often_as_the_longest_completion_is_long() -> None:
    context = 2 * 3 + 3 + 4 * 3 + 10
    few = PLAIN.rollout([3], [[2, 4]], [], max_sequences=8)
    assert few.bytes == 4 * PLAIN.weight_bytes + context * 4 * 2
    assert few.flops == PLAIN.text_flops([3], [[]], 0) + 2 * 110 * 6 + 4 * 8 * context
    one_by_one = PLAIN.rollout([3], [[2, 4]], [], max_sequences=1)
    assert one_by_one.bytes - few.bytes == 2 * PLAIN.weight_bytes


def test_the_floor_is_the_slower_of_computing_and_reading() -> None:
    peak = Peak("a device", flops=100.0, bandwidth=10.0)
    assert Work(200, 10).floor_seconds(peak) == 2
    assert Work(200, 40).floor_seconds(peak) == 4
    reported = efficiency({"update": (Work(200, 10), 8.0), "weight_sync": (PLAIN.sync(), 100.0)}, peak)
    assert reported["mfu_ratio"] == {"update": 0.25}
    assert reported["roofline_ratio"] == {"update": 0.25, "weight_sync": 0.44}
    assert reported["floor_seconds"] == {"update": 2, "weight_sync": 44}


def test_without_a_known_peak_nothing_is_told() -> None:
    assert efficiency({"update": (Work(200, 10), 8.0)}, None) == {}
    assert device_peak(torch.device("cpu"), "bfloat16") is None


def test_a_cpus_peak_is_measured() -> None:
    peak = device_peak(torch.device("cpu"), "float32")
    assert peak is not None and peak.device == "cpu, measured"
    assert 1e9 < peak.flops < 1e13 and 1e8 < peak.bandwidth < 1e13
