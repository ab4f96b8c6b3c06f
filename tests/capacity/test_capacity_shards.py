"""Files of weights: every tensor once, none too large, even shares for the ranks, and few bytes for each at a save."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionr1.capacity.memory import Setup, save_bytes
from visionr1.capacity.model import QWEN2_5_VL
from visionr1.capacity.shards import LARGEST_SHARD, SMALLEST_SHARD, weight_shards

MB = 10**6
SIZES = st.lists(st.integers(1, 3000), min_size=1, max_size=40)


@given(SIZES, st.integers(1, 70))
def test_every_tensor_is_in_one_file_and_every_rank_agrees(sizes: list[int], ranks: int) -> None:
    named = {f"tensor {place}": size * MB for place, size in enumerate(sizes)}
    shards = weight_shards(named, ranks)
    assert sorted(name for shard in shards for name in shard.names) == sorted(named)
    assert shards == weight_shards(dict(named), ranks)
    for shard in shards:
        assert 0 <= shard.rank < ranks
        assert shard.bytes == sum(named[name] for name in shard.names) > 0
        assert shard.bytes <= LARGEST_SHARD or len(shard.names) == 1


@given(SIZES, st.integers(1, 70))
def test_no_rank_writes_much_more_than_its_share(sizes: list[int], ranks: int) -> None:
    """The bound of sharing out the largest first, twice: tensors to files, files to ranks."""
    named = {str(place): size * MB for place, size in enumerate(sizes)}
    written = [0] * ranks
    for shard in weight_shards(named, ranks):
        written[shard.rank] += shard.bytes
    even = max(sum(named.values()) / ranks, max(named.values()), SMALLEST_SHARD)
    assert max(written) <= 2 * even


def test_small_weights_are_one_file_of_the_first_rank() -> None:
    [shard] = weight_shards({"a": 30 * MB, "b": 40 * MB}, 8)
    assert (shard.file, shard.rank, shard.names) == ("model.safetensors", 0, ("a", "b"))


def test_files_have_the_names_that_hugging_face_gives_them() -> None:
    files = [shard.file for shard in weight_shards({"a": 3000 * MB, "b": 4000 * MB, "c": 2000 * MB}, 1)]
    assert files == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


@pytest.mark.parametrize(("zero_stage", "gpus"), [(1, 64), (2, 64), (3, 64)])
def test_a_save_of_7b_on_64_gpus_moves_little_for_each(zero_stage: int, gpus: int) -> None:
    setup = Setup(model=QWEN2_5_VL["7B"], gpu_gib=79.2, gpus=gpus, zero_stage=zero_stage, row_tokens=8192, longest=8192)
    assert save_bytes(setup) <= 3e9
    whole = 14 * QWEN2_5_VL["7B"].parameters
    assert save_bytes(setup) >= whole / gpus
