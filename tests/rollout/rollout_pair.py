"""A rollout engine and the trainer's policy, and how far apart their log-probs are."""

import io
from dataclasses import dataclass

import torch
from PIL import Image

from visionr1.data.digits import problems
from visionr1.data.rows import Row
from visionr1.model.chat import PromptBuilder
from visionr1.model.load import load_model
from visionr1.model.pack import PromptTensors, TrainSequence, pack, prompt_tensors
from visionr1.model.policy import Policy
from visionr1.model.prompt import Prompt
from visionr1.preflight.base import base_dir
from visionr1.recipe import load_recipe
from visionr1.rollout.build import build_engine
from visionr1.rollout.types import Group, RolloutEngine, Sampling

LIMIT = 1e-5
"""Of a token's log-prob, relative to its size where that is over 1.

Both sides round in float32, and each is as far from a float64 forward pass as the other (measured: 2e-6 in
the mean, up to 1e-5 in thousands of tokens). The rounding of a hidden state moves each logit by its own few
1e-6. For a token that is nearly certain the move cancels against the normaliser; for a rare one nothing
cancels, and the rarer, the larger the logits whose difference it is.
"""
ENGINES = ("vllm", "hf")
MAX_MODEL_LEN = 384


@dataclass
class Pair:
    """An engine and a policy that should always agree."""

    engine: RolloutEngine
    policy: Policy
    builder: PromptBuilder

    def sync(self) -> None:
        """The worker's own sequence after an update."""
        self.engine.sleep()
        self.engine.wake_weights()
        self.engine.load_weights((name, parameter.detach()) for name, parameter in self.policy.inner.named_parameters())
        self.engine.wake_cache()

    def sample(
        self, n: int = 4, max_tokens: int = 24, temperature: float = 1.0, prompts: list[Prompt] | None = None
    ) -> list[Group]:
        prompts = self.prompts() if prompts is None else prompts
        return self.engine.generate(prompts, Sampling(n, max_tokens, temperature), list(range(100, 100 + len(prompts))))

    def prompts(self) -> list[Prompt]:
        return [self.builder.build(row) for row in ROWS]

    def tensors(self, prompt: Prompt, token_ids: list[int]) -> PromptTensors:
        images = self.builder.image_inputs(prompt.images) if prompt.images else None
        return prompt_tensors(self.policy.inner.model, token_ids, images, self.builder.image_token_id)

    def trainer_logps(self, groups: list[Group], prompts: list[PromptTensors] | None = None) -> torch.Tensor:
        """The policy's log-probs of all sampled tokens, [N]; `prompts` are the groups' own if not given."""
        if prompts is None:
            prompts = [self.tensors(*pair) for pair in zip(self.prompts(), [g.prompt_token_ids for g in groups], strict=True)]
        sequences = [TrainSequence(place, c.token_ids) for place, group in enumerate(groups) for c in group.completions]
        with torch.no_grad():
            return self.policy(pack(prompts, sequences, shared=True)).logps_N

    def distance(self, groups: list[Group], prompts: list[PromptTensors] | None = None) -> float:
        """The largest difference of a token's log-prob, in the units of LIMIT's docstring."""
        ours, theirs = self.trainer_logps(groups, prompts), engine_logps(groups)
        assert len(ours) > 50
        return float(((ours - theirs).abs() / theirs.abs().clamp(min=1.0)).max())

    def soften(self) -> None:
        """Makes policy and engine less sure of their tokens: the surer, the more a forward pass magnifies float32's rounding."""
        with torch.no_grad():
            for parameter in self.policy.inner.parameters():
                parameter.mul_(0.7)
        self.sync()

    def shake(self, seed: int, size: float = 0.01) -> None:
        """Changes every weight of the policy."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.policy.inner.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * size)


def engine_logps(groups: list[Group]) -> torch.Tensor:
    return torch.tensor([logp for group in groups for completion in group.completions for logp in completion.logprobs])


def make_pair(engine: str) -> Pair:
    recipe = load_recipe("demo", [f"rollout.engine={engine}"])
    directory = base_dir(recipe.model)
    builder = PromptBuilder(directory, recipe.model)
    policy = Policy(load_model(directory, recipe.model, torch.device("cpu")), builder.banned_token_ids, 1.0)
    return Pair(build_engine(directory, recipe, builder, max_model_len=MAX_MODEL_LEN, gpu_share=0.6), policy, builder)


def png(width: int, height: int, shade: int) -> bytes:
    data = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).point(lambda v: (v + shade) % 256).convert("RGB").save(data, "PNG")
    return data.getvalue()


ROWS = [
    *problems("train")[:6],
    Row("wide", "<image>What is the largest digit?", (png(196, 84, 90),), "5"),
    Row("pair", "Compare <image> with <image> now.", (png(56, 56, 30), png(84, 140, 60)), "1"),
    Row("text", "What is the sum of 3 and 4?", (), "7"),
    # vLLM keeps blocks of 128 tokens of prompts that it has seen.
    Row("long", "<image>" + "What is the sum of the digits? " * 16, (png(112, 56, 10),), "9"),
]
