"""vLLM inside the worker's process: sampling, and new weights after every update.

Import this module only where a vLLM engine is wanted; it sets vLLM's environment before vLLM loads.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from visionr1.data.rows import MAX_IMAGES
from visionr1.errors import BadInput
from visionr1.model.head import BAN
from visionr1.model.prompt import Prompt
from visionr1.recipe.schema import Recipe
from visionr1.rollout import vllm_on_cpu
from visionr1.rollout.types import Completion, Group, Sampling

_ENVIRONMENT = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
_CUDA_ENVIRONMENT = {
    # Both look for a peer's GPU by its rank, while a worker sees its own GPU alone; NCCL does it for them.
    "VLLM_ALLREDUCE_USE_SYMM_MEM": "0",
    "VLLM_ALLREDUCE_USE_FLASHINFER": "0",
}
_MOST_BANNED = 1024
"""Entries of a logit_bias that vLLM takes on a GPU (MAX_NUM_LOGIT_BIAS_TOKENS)."""


def _pack_head(model: Any) -> None:
    head = model.language_model.lm_head
    head.quant_method.process_weights_after_loading(head)


def _prepare_environment(cuda: bool) -> None:
    os.environ.update(_ENVIRONMENT | (_CUDA_ENVIRONMENT if cuda else vllm_on_cpu.ENVIRONMENT))
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")


def device_options(recipe: Recipe, cuda: bool, max_model_len: int, gpu_share: float) -> dict[str, Any]:
    """vLLM's options that depend on what it runs on."""
    if cuda:
        return {
            # The engine gives its memory to the trainer while it sleeps.
            "enable_sleep_mode": True,
            "gpu_memory_utilization": gpu_share,
            # It asks whether the GPU with a peer's rank can be reached, and a worker sees one GPU, its own.
            "disable_custom_all_reduce": True,
        }
    return {
        "enforce_eager": True,
        # With a seed per request, a prompt split over two steps ends in "CPU Generator does not use offset".
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(max_model_len, 8192),
        "kv_cache_memory_bytes": int(recipe.rollout.cpu_kv_cache_gib * 2**30),
    }


def is_tail(running: int, waiting: int, slots: int) -> bool:
    """Whether an engine is in the tail of its work: nothing waits, and less than a quarter of its slots are busy."""
    return waiting == 0 and 4 * running < slots


class VllmEngine:
    """One engine a group of `tensor_parallel` workers, in the process group that the workers already have.

    Under tensor parallelism all its workers must submit the same prompts with the same seeds in the
    same order.

    Args:
        model_dir: Hugging Face directory.
        max_model_len: longest prompt plus completion, in tokens.
        gpu_share: part of GPU memory that it may take.
        banned_token_ids: tokens that are never sampled.

    Raises:
        BadInput: vLLM is not installed, libnuma is not, or more ids are banned than vLLM takes.
    """

    def __init__(
        self,
        model_dir: Path,
        recipe: Recipe,
        *,
        device: torch.device,
        max_model_len: int,
        gpu_share: float,
        banned_token_ids: list[int],
        eos_token_ids: list[int],
        tensor_parallel: int = 1,
        distributed: bool = False,
    ):
        cuda = device.type == "cuda"
        _prepare_environment(cuda)
        if not cuda:
            vllm_on_cpu.require_libnuma()
        try:
            from vllm import LLM
        except ImportError as error:
            raise BadInput(
                "rollout.engine is vllm, but vLLM is not installed: "
                "install visionr1-ptst[rollout-gpu] or [rollout-cpu], or use --rollout hf"
            ) from error
        if cuda and len(banned_token_ids) > _MOST_BANNED:
            raise BadInput(
                f"model.base: {len(banned_token_ids)} ids of the model have no text in its tokenizer, and vLLM can keep only "
                f"{_MOST_BANNED} from being sampled: copy the tokenizer of this very model"
            )
        self._banned = dict.fromkeys(banned_token_ids, BAN)
        self._eos = eos_token_ids
        self._most_sequences = recipe.rollout.max_sequences
        options = device_options(recipe, cuda, max_model_len, gpu_share)
        if distributed:
            options["distributed_executor_backend"] = "external_launcher"
        rng = random.getstate(), np.random.get_state(), torch.get_rng_state()
        self._llm = LLM(
            model=str(model_dir),
            tensor_parallel_size=tensor_parallel,
            dtype=recipe.model.dtype,
            logprobs_mode="processed_logprobs",
            max_model_len=max_model_len,
            max_num_seqs=recipe.rollout.max_sequences,
            limit_mm_per_prompt={"image": MAX_IMAGES, "video": 0},
            # The pictures come already fitted; with the same limits vLLM's own resizing leaves them as they are.
            mm_processor_kwargs={"min_pixels": recipe.model.min_pixels, "max_pixels": recipe.model.max_pixels},
            seed=recipe.seed,
            # Its own statistics cost each token something; `live` reads the few that matter where they lie.
            disable_log_stats=True,
            trust_remote_code=False,
            **options,
        )
        # vLLM reseeds every global generator of the process that it starts in.
        random.setstate(rng[0])
        np.random.set_state(rng[1])
        torch.set_rng_state(rng[2])
        client: Any = self._llm.llm_engine.engine_core  # in this process, so the engine's core is at hand
        self._scheduler: Any = client.engine_core.scheduler
        self._preemptions = 0
        self._asleep = False
        self._count_preemptions()
        self._tokenizer: Any = self._llm.get_tokenizer()
        self._slots = 0
        self._tail = 0.0
        self._time_steps()

    def _time_steps(self) -> None:
        engine: Any = self._llm.llm_engine
        step = engine.step

        def timed() -> Any:
            running, waiting = self._scheduler.get_request_counts()
            begun = time.perf_counter()
            outputs = step()
            if is_tail(running, waiting, self._slots):
                self._tail += time.perf_counter() - begun
            return outputs

        engine.step = timed

    def tail_seconds(self) -> float:
        """Seconds of the last `generate` in which less than a quarter of its slots were busy."""
        return self._tail

    def _count_preemptions(self) -> None:
        # The scheduler counts them with its statistics only.
        preempt = self._scheduler._preempt_request

        def counted(*arguments: Any, **named: Any) -> None:
            self._preemptions += 1
            preempt(*arguments, **named)

        self._scheduler._preempt_request = counted

    def generate(self, prompts: list[Prompt], sampling: Sampling, seeds: list[int]) -> list[Group]:
        from vllm import SamplingParams

        params = [
            SamplingParams(
                n=sampling.n,
                max_tokens=sampling.max_tokens,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                seed=seed,
                logprobs=0,
                logit_bias=self._banned,
                stop_token_ids=self._eos,
                ignore_eos=True,
                # Once for the whole completion, in `_completion`: with log-probs vLLM would decode each token twice.
                detokenize=False,
            )
            for seed in seeds
        ]
        requests: list[Any] = [
            {"prompt_token_ids": prompt.token_ids} | ({"multi_modal_data": {"image": prompt.images}} if prompt.images else {})
            for prompt in prompts
        ]
        self._slots, self._tail = min(self._most_sequences, sampling.n * len(prompts)), 0.0
        state = torch.get_rng_state()  # vLLM draws from it in this process, the trainer's
        outputs: list[Any] = self._llm.generate(requests, params, use_tqdm=False)
        torch.set_rng_state(state)
        return [Group(list(output.prompt_token_ids), [self._completion(c) for c in output.outputs]) for output in outputs]

    def _completion(self, output: Any) -> Completion:
        token_ids = list(output.token_ids)
        logprobs = [place[token].logprob for token, place in zip(token_ids, output.logprobs, strict=True)]
        sampled = token_ids[:-1] if token_ids and token_ids[-1] in self._eos else token_ids
        # As it was sampled: the tags may be special tokens of this tokenizer.
        text = self._tokenizer.decode(sampled, skip_special_tokens=False)
        return Completion(text, token_ids, logprobs, "length" if output.finish_reason == "length" else "stop")

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Takes over weights under their Hugging Face names, then forgets all that was computed with the old ones."""
        self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(weights)})
        self._renew_head()
        self._forget()

    def load(self, model_dir: Path) -> None:
        """Takes over the weights of another directory of the same model."""
        self._llm.collective_rpc("reload_weights", kwargs={"weights_path": str(model_dir)})
        self._renew_head()
        self._forget()

    def _renew_head(self) -> None:
        # On a CPU vLLM computes from packed copies of weights and renews those of a layer that it loads. A head that is tied to
        # the embeddings is not loaded: it has their new weights, and its copy the old ones.
        self._llm.apply_model(_pack_head)

    def _forget(self) -> None:
        # Image embeddings and prefixes of the old weights would be served again, silently.
        self._llm.reset_prefix_cache()
        self._llm.reset_mm_cache()
        self._llm.llm_engine.reset_encoder_cache()

    def live(self) -> dict[str, Any]:
        """The engine's own numbers now, under their keys in `visionr1.metrics`; may be called from another thread."""
        running, waiting = self._scheduler.get_request_counts()
        return {
            "vllm_running_requests": running,
            "vllm_waiting_requests": waiting,
            "vllm_kv_cache_usage_ratio": self._scheduler.kv_cache_manager.usage,
            "vllm_preemptions": self._preemptions,
            "vllm_sleep_state": {"awake": float(not self._asleep), "discard_all": float(self._asleep)},
        }

    def sleep(self) -> None:
        """Gives weights and KV cache back to the trainer (a no-op on a CPU)."""
        self._llm.sleep(level=2)
        self._asleep = True

    def wake_weights(self) -> None:
        """Room for the weights only; new ones must be loaded before `wake_cache`."""
        self._llm.wake_up(tags=["weights"])

    def wake_cache(self) -> None:
        self._llm.wake_up(tags=["kv_cache"])
        self._asleep = False
