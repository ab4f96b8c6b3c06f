"""A swapped picture must show far above LIMIT; `test_rollout_planted.py` plants the faults that others met in a whole worker."""

from rollout_pair import LIMIT, Pair

FAR = 100 * LIMIT


def test_a_swapped_picture_is_seen(pair: Pair) -> None:
    groups = pair.sample()
    prompts = pair.prompts()
    prompts[0].images[:], prompts[1].images[:] = list(prompts[1].images), list(prompts[0].images)
    tensors = [pair.tensors(prompt, group.prompt_token_ids) for prompt, group in zip(prompts, groups, strict=True)]
    assert pair.distance(groups, tensors) > FAR
