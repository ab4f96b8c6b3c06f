"""Seeds, bans and ends: what an engine samples and when it stops."""

from collections import Counter

import pytest
import torch
from rollout_pair import LIMIT, Pair

from visionr1.data.digits import problems
from visionr1.data.rows import Row
from visionr1.demo.chains import READ_ALOUD
from visionr1.grpo.schedule import request_seed
from visionr1.model.prompt import Prompt
from visionr1.rollout.types import Sampling


def test_a_seed_gives_the_same_completions_in_any_batch(pair: Pair) -> None:
    """Sampling must not depend on what else is in the batch, or a resumed step would be another one."""
    prompts, seeds = pair.prompts(), list(range(7, 7 + len(pair.prompts())))
    sampling = Sampling(3, 16, 1.0)
    whole = pair.engine.generate(prompts, sampling, seeds)
    turned = pair.engine.generate(prompts[::-1], sampling, seeds[::-1])[::-1]
    alone = [pair.engine.generate([prompt], sampling, [seed])[0] for prompt, seed in zip(prompts[:3], seeds, strict=False)]
    for group, other in [*zip(whole, turned, strict=True), *zip(whole, alone, strict=False)]:
        assert [c.token_ids for c in group.completions] == [c.token_ids for c in other.completions]


def test_other_seeds_give_other_completions(pair: Pair) -> None:
    prompt = pair.prompts()[0]
    pair.shake(1, 0.05)
    pair.sync()
    first, second = (pair.engine.generate([prompt], Sampling(4, 16, 1.0), [seed])[0] for seed in (1, 2))
    assert len({tuple(c.token_ids) for c in first.completions}) > 1, "completions of one group differ"
    assert [c.token_ids for c in first.completions] != [c.token_ids for c in second.completions]


def test_a_prompt_that_a_step_draws_eight_times_gets_eight_groups_and_the_same_again_when_resumed(pair: Pair) -> None:
    pair.shake(1, 0.05)
    pair.sync()
    prompts, seeds = pair.prompts()[:1] * 8, [request_seed(1, 5, place) for place in range(8)]
    first, again = (pair.engine.generate(prompts, Sampling(4, 16, 1.0), seeds) for _ in range(2))
    groups = [[tuple(completion.token_ids) for completion in group.completions] for group in first]
    assert len(set(map(tuple, groups))) == 8
    assert groups == [[tuple(completion.token_ids) for completion in group.completions] for group in again]


def test_sampling_leaves_the_trainers_generator_alone(pair: Pair) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    pair.sample(n=1, max_tokens=4)
    assert torch.equal(torch.rand(4), expected)


def eager_for_vision_tokens(pair: Pair) -> None:
    """A policy that would choose a vision token at once."""
    with torch.no_grad():
        head_VD = pair.policy.inner.lm_head.weight
        head_VD[pair.builder.banned_token_ids] = head_VD.abs().amax(0) * 4 * head_VD.mean(0).sign()
    pair.sync()


def test_banned_tokens_are_never_sampled_and_the_trainer_knows(pair: Pair) -> None:
    eager_for_vision_tokens(pair)
    groups = pair.sample()
    sampled = {token for group in groups for completion in group.completions for token in completion.token_ids}
    assert sampled.isdisjoint(pair.builder.banned_token_ids)
    pair.soften()
    groups = pair.sample()
    sampled = {token for group in groups for completion in group.completions for token in completion.token_ids}
    assert sampled.isdisjoint(pair.builder.banned_token_ids)
    assert pair.distance(groups) <= LIMIT


def test_the_text_is_as_it_was_sampled_special_tokens_included(pair: Pair) -> None:
    """A tokenizer may declare <think> as a special token: left out, it would be missing when the response is graded."""
    tokenizer = pair.builder.tokenizer
    special = tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert special in tokenizer.all_special_ids
    likely = Counter(token for group in pair.sample() for c in group.completions for token in c.token_ids[:-1])
    with torch.no_grad():
        head_VD = pair.policy.inner.lm_head.weight
        head_VD[special] = head_VD[likely.most_common(1)[0][0]]
    pair.sync()
    completions = [completion for group in pair.sample() for completion in group.completions]
    assert any("<|im_start|>" in completion.text for completion in completions)
    for completion in completions:
        kept = completion.token_ids[:-1] if completion.finish_reason == "stop" else completion.token_ids
        assert completion.text == tokenizer.decode(kept, skip_special_tokens=False)


@pytest.fixture
def read_aloud(pair: Pair) -> list[Prompt]:
    """What the base was taught to answer shortly, and then to stop."""
    rows = problems("train")[:3]
    return [pair.builder.build(Row(row.id, f"<image>{READ_ALOUD}", row.images, row.answer)) for row in rows]


def test_a_response_ends_with_its_end_token(pair: Pair, read_aloud: list[Prompt]) -> None:
    groups = pair.sample(max_tokens=32, prompts=read_aloud)
    for completion in (c for group in groups for c in group.completions):
        assert completion.finish_reason == "stop"
        assert completion.token_ids[-1] in pair.builder.eos_token_ids
        assert not set(completion.token_ids[:-1]) & set(pair.builder.eos_token_ids)
        assert len(completion.logprobs) == len(completion.token_ids) < 32
        assert completion.text == pair.builder.tokenizer.decode(completion.token_ids[:-1])
        assert "Left" in completion.text and "<|" not in completion.text


def test_a_response_that_is_cut_says_so(pair: Pair, read_aloud: list[Prompt]) -> None:
    groups = pair.sample(max_tokens=3, prompts=read_aloud)
    for completion in (c for group in groups for c in group.completions):
        assert completion.finish_reason == "length"
        assert len(completion.token_ids) == len(completion.logprobs) == 3


def test_greedy_sampling_takes_the_likeliest_token(pair: Pair, read_aloud: list[Prompt]) -> None:
    [group] = pair.engine.generate(read_aloud[:1], Sampling(1, 16, 0.0), [0])
    [again] = pair.engine.generate(read_aloud[:1], Sampling(1, 16, 0.0), [1])
    assert group.completions[0].token_ids == again.completions[0].token_ids


def test_the_groups_of_a_text_problem_and_of_pictures_stay_in_order(pair: Pair) -> None:
    prompts = pair.prompts()
    groups = pair.sample(n=1, max_tokens=2)
    assert [group.prompt_token_ids for group in groups] == [pair.builder.expand(prompt) for prompt in prompts]
