"""What is in memory at each moment of a GRPO stage or of SFT, by item, on one GPU and on one node's host.

It follows the engine: `visionr1.engine.zero` (what leaves the GPU, and when), `visionr1.grpo.worker` (the order of a step) and
DeepSpeed 0.19's buffers. Weights, gradients and optimiser states are counted on real engines by
`tests/engine/test_engine_memory.py`. The named constants of CUDA and vLLM are estimates; no test measures them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal

from visionr1.capacity.model import ModelSizes
from visionr1.capacity.shards import Shard, weight_shards

GIB: Final = 2**30
STEP_PARAMETERS = 2**28
"""Parameters of a rank that AdamW updates at a time, a larger tensor alone: bounds the copies that a step makes."""
REDUCE_BUCKET: Final = 50_000_000
"""Gradients of so many parameters are reduced at a time."""
GATHER_BYTES = 512 * 2**20
"""Whole parameters that exist at a time while ZeRO-3's weights are handed on."""
LIVE_PARAMETERS: Final = 1_000_000_000
"""Whole parameters that ZeRO-3 keeps at a time (DeepSpeed's stage3_max_live_parameters)."""
LOGIT_CHUNK: Final = 256
"""Logits of so many tokens exist at a time, in two buffers of 256 x 152,064 x 4 bytes = 156 MB for a 7B model."""

CONTEXT: Final = 1.0
"""GiB of the CUDA context, loaded kernels and libraries' workspaces of trainer and engine; an estimate."""
NCCL: Final = 1.0
"""GiB of communicators' buffers with more than one GPU; an estimate."""
GRAPHS_PER_LAYER: Final = 0.04
"""GiB of vLLM's CUDA graphs, which stay while it sleeps; an estimate from logs of vLLM (1.1 for 28 layers)."""
ENGINE_ACTIVATIONS: Final = 3.0
"""GiB that vLLM keeps free for activations, logits and its vision tower, as it profiles at its start; an estimate."""
ENGINE_SEQUENCES: Final = 4
"""An engine's KV cache has room for at least so many sequences of full length. With fewer a stage would be very slow."""
PINNED: Final = 1.5
"""Pinned host memory by the bytes asked for: torch rounds each buffer up to a power of two."""
PROCESS: Final = 6.0
"""GiB of host memory of one worker's libraries, data and Ray; an estimate."""

Place = Literal["none", "gpu", "host"]
Items = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """One way to run a phase.

    Attributes:
        gpu_gib: memory of a GPU that a process can have.
        reference: where the reference model is between its passes.
        row_tokens: tokens of a packed row.
        longest: prompt and completion, in tokens.
        engines: of an evaluation, side by side, each on `gpus` GPUs.
        engine_share: part of the GPU that vLLM takes; it takes at least what it cannot do without.
        element: bytes of a weight in training and sampling.
    """

    model: ModelSizes
    gpu_gib: float
    gpus: int
    zero_stage: int
    row_tokens: int
    longest: int
    gpus_per_node: int = 8
    tensor_parallel: int = 1
    engines: int = 1
    reference: Place = "gpu"
    engine_share: float = 0.0
    checkpointing: bool = True
    vision_trained: bool = True
    element: int = 2


@dataclass(frozen=True)
class Moment:
    """Items in GiB. Items of the host are for all processes of a node."""

    name: str
    gpu: Items
    host: Items

    @property
    def gpu_total(self) -> float:
        """GiB on one GPU."""
        return sum(self.gpu.values())

    @property
    def host_total(self) -> float:
        """GiB on one node's host."""
        return sum(self.host.values())


def stage_moments(setup: Setup) -> list[Moment]:
    """All moments of a GRPO stage, in the order in which they come."""
    away = _away(setup)
    here = {"reference": _reference(setup)} if setup.reference != "none" else {}
    reference = here if setup.reference == "gpu" else {}
    base = _base(setup) | {"vLLM's CUDA graphs": GRAPHS_PER_LAYER * setup.model.layers * GIB}
    stays = _stays(setup) | reference
    engine, forward = _engine(setup), _activations(setup, backward=False)
    weights = {"vLLM's weights": engine["vLLM's weights"]}
    gathered = _live(setup) if setup.reference == "gpu" else {}
    host_rest = away | ({"reference": _whole(setup)} if setup.reference == "host" else {})
    return [
        _load_moment(setup, here),
        _moment(setup, "construct", base | stays | engine, host_rest),
        _moment(setup, "rollout", base | stays | engine, host_rest),
        *([_moment(setup, "reference", base | stays | here | gathered | forward, away)] if here else []),
        *_training(setup, base | reference, host_rest, _without_moments(setup)),
        _moment(setup, "save", base | stays | reference | _saved_tensor(setup), host_rest | _saved_files(setup)),
        _moment(setup, "sync", base | stays | weights | _handed_on(setup), host_rest),
        _moment(setup, "probe", base | _without_moments(setup) | reference | _live(setup) | forward, host_rest),
    ]


def sft_moments(setup: Setup) -> list[Moment]:
    """All moments of SFT, in which everything stays on the GPU."""
    base, states = _base(setup), _states(setup)
    return [
        _load_moment(setup, {}),
        *_training(setup, base, {}, states),
        _moment(setup, "save", base | states | _saved_tensor(setup), _saved_states(setup) | _saved_files(setup)),
    ]


def evaluation_moment(setup: Setup) -> Moment:
    """Sampling alone, with no trainer on the GPU."""
    graphs = {"vLLM's CUDA graphs": GRAPHS_PER_LAYER * setup.model.layers * GIB}
    return _moment(setup, "rollout", _base(setup) | graphs | _engine(setup), {})


def _training(setup: Setup, base: Items, host: Items, in_passes: Items) -> list[Moment]:
    """Forward and backward passes, with the states `in_passes`, then the optimiser's step with all."""
    states, gradients = _states(setup), {"gradients": _gradients(setup), "gradients at the edges": _edges(setup)}
    rows = _live(setup) | _activations(setup, backward=True) | {"reduction buckets": 2 * 4 * REDUCE_BUCKET}
    largest = max(min(_trained(setup) / setup.gpus, STEP_PARAMETERS), setup.model.embedding / setup.gpus)
    step = {"reduction buckets": 4 * REDUCE_BUCKET, "step's copies": 3 * 4 * largest}
    return [
        _moment(setup, "update", base | in_passes | gradients | rows, host),
        _moment(setup, "step", base | states | gradients | step, host),
    ]


def _load_moment(setup: Setup, reference: Items) -> Moment:
    """The policy comes first, then the reference beside what is left of it, or a stored trainer's moments.

    Under ZeRO-1 and 2 each comes whole, by way of the host. Under ZeRO-3 each tensor is divided before the next one comes, and
    DeepSpeed copies the parts into one buffer; a reference that rests on the host comes whole there, too.
    """
    gradients = _stays(setup).get("gradients", 0.0)
    left = {"master weights": _states(setup)["master weights"], "gradients": gradients}
    tensor = {"whole tensors": setup.element * setup.model.embedding} if setup.zero_stage == 3 else {}
    alone = {"weights as they come": _weights(setup)} if setup.zero_stage == 3 else {"whole weights": _whole(setup)}
    policy = left | alone | _stays(setup) | tensor
    beside = left | {"weights": _weights(setup), "moments": _states(setup)["moments"]} | reference | tensor
    fullest = max(policy, beside, key=lambda items: sum(items.values()))
    one = setup.model.embedding * setup.element if setup.zero_stage == 3 and setup.reference != "host" else _whole(setup)
    return _moment(setup, "load", _base(setup) | fullest, {"weights being loaded": one})


def _moment(setup: Setup, name: str, gpu: Items, host: Items) -> Moment:
    """From bytes on one GPU and of one process on the host."""
    whole = {"processes": PROCESS * GIB} | host
    per_node = {item: size * min(setup.gpus * setup.engines, setup.gpus_per_node) / GIB for item, size in whole.items()}
    return Moment(name, {item: size / GIB for item, size in gpu.items()}, per_node)


def _base(setup: Setup) -> dict[str, float]:
    return {"CUDA and NCCL": (CONTEXT + (NCCL if setup.gpus > 1 else 0.0)) * GIB}


def _trained(setup: Setup) -> int:
    return setup.model.trained(vision=setup.vision_trained)


def _whole(setup: Setup) -> float:
    """A whole model's weights."""
    return setup.element * setup.model.parameters


def _reference(setup: Setup) -> float:
    """The reference model's weights: a rank's part under ZeRO-3, unless they rest on the host."""
    return _whole(setup) / (setup.gpus if setup.zero_stage == 3 and setup.reference == "gpu" else 1)


def _weights(setup: Setup) -> float:
    """The policy's weights: whole under ZeRO-1 and 2, a rank's part under 3."""
    return _whole(setup) / (setup.gpus if setup.zero_stage == 3 else 1)


def _gradients(setup: Setup) -> float:
    """Sums in float32: whole under ZeRO-1, a rank's part under 2 and 3."""
    return 4 * _trained(setup) / (1 if setup.zero_stage == 1 else setup.gpus)


def _edges(setup: Setup) -> float:
    """What ZeRO-2 has beyond a rank's part: a tensor that two ranks share is summed whole by both, two of them in each group."""
    if setup.zero_stage != 2 or setup.gpus == 1:
        return 0.0
    groups = -(-_trained(setup) // (STEP_PARAMETERS * setup.gpus))
    return 4 * (setup.model.embedding + 2 * groups * setup.model.width * setup.model.inner)


def _states(setup: Setup) -> dict[str, float]:
    """The policy while it trains, without gradients; DeepSpeed has float32 master weights even if the weights are float32."""
    trained = _trained(setup) / setup.gpus
    return {"weights": _weights(setup), "master weights": 4 * trained, "moments": 8 * trained}


def _without_moments(setup: Setup) -> dict[str, float]:
    """The same in GRPO's passes: the moments come for the optimiser's step alone (`moments_present`)."""
    return {item: size for item, size in _states(setup).items() if item != "moments"}


def _stays(setup: Setup) -> dict[str, float]:
    """What of the policy stays on the GPU while the engine works (`states_to_cpu`)."""
    if setup.zero_stage < 3:
        return {}
    return {"weights": _weights(setup), "gradients": _gradients(setup)}


def _away(setup: Setup) -> dict[str, float]:
    """The host's side of `states_to_cpu`. Its memory is kept for the next time."""
    states = _states(setup)
    if setup.zero_stage == 3:
        return {"optimiser's states": states["master weights"] + states["moments"]}
    return {"pinned copies of weights and states": PINNED * sum(states.values())}


def _live(setup: Setup) -> dict[str, float]:
    """Parameters that ZeRO-3 has gathered for a pass."""
    if setup.zero_stage < 3:
        return {}
    return {"gathered parameters": setup.element * min(setup.model.parameters, LIVE_PARAMETERS + setup.model.embedding)}


def _engine(setup: Setup) -> dict[str, float]:
    """vLLM awake: its share, or what it needs for a few sequences of full length if that is more."""
    model, parts = setup.model, setup.tensor_parallel
    weights = setup.element * model.parameters / parts
    # A tied head has a copy of its own nowhere; keys and values of a token lie in all layers.
    token = setup.element * 2 * model.layers * model.keys / parts
    cache = setup.engine_share * setup.gpu_gib * GIB - weights - ENGINE_ACTIVATIONS * GIB
    return {
        "vLLM's weights": weights,
        "vLLM's activations": ENGINE_ACTIVATIONS * GIB,
        "KV cache": max(cache, ENGINE_SEQUENCES * setup.longest * token),
    }


def _activations(setup: Setup, *, backward: bool) -> dict[str, float]:
    """Of one packed row, all of whose tokens may be a picture's: what layers keep, and the widest one at work.

    Widths are counted from the tensors that a layer of Qwen2.5-VL saves: norms in float32 (8 widths for two), queries, keys and
    values before and after rotation, attention's and the feed-forward's outputs; the backward pass adds its gradients.
    """
    model, tokens, element = setup.model, setup.row_tokens, setup.element
    patches = tokens * model.merged
    text_saved = 13 * model.width + 4 * model.keys + 4 * model.inner
    vision_saved = 17 * model.vision_width + 4 * model.vision_inner
    text_work = text_saved + model.width + 3 * model.inner
    vision_work = vision_saved + model.vision_width + 3 * model.vision_inner
    kept = 0.0
    if backward:
        text_kept = model.width if setup.checkpointing else text_saved
        vision_kept = model.vision_width if setup.checkpointing else vision_saved
        if not setup.vision_trained:
            vision_kept = 0
        kept = element * (model.layers * tokens * text_kept + model.vision_layers * patches * vision_kept)
    # Two float32 buffers and one of the weights' type; with a loss also the gradient of the head's weight.
    head = (8 + element) * LOGIT_CHUNK * model.vocabulary + (element * model.embedding if backward else 0)
    at_work = max(element * tokens * text_work, element * patches * vision_work, head)
    return {"activations kept": kept, "activations at work": at_work, "the row": 4 * patches * model.patch}


def _handed_on(setup: Setup) -> dict[str, float]:
    """Weights between the trainer and the engine: a gathered group and its copy, or the largest tensor and its copy."""
    group = max(GATHER_BYTES if setup.zero_stage == 3 else 0, setup.element * setup.model.embedding)
    return {"weights on their way": 2 * group}


def _saved_tensor(setup: Setup) -> dict[str, float]:
    """What comes from all ranks to the one that writes it: under ZeRO-3 the largest tensor."""
    return {"a gathered tensor": setup.element * setup.model.embedding} if setup.zero_stage == 3 else {}


def _saved_states(setup: Setup) -> dict[str, float]:
    """A rank's share of master weights and moments; in GRPO it is on the host already."""
    return {"a checkpoint's states": 12 * _trained(setup) / setup.gpus}


def _saved_files(setup: Setup) -> dict[str, float]:
    """The largest file of weights, of which a process writes one at a time."""
    return {"a checkpoint's weights": max(shard.bytes for shard in _shards(setup))}


def save_bytes(setup: Setup) -> float:
    """Bytes that a save moves for the rank that has most to do: what it writes and, under ZeRO-3, what it sends to the writers.

    Master weights and moments are written where they are.
    """
    written = [0] * setup.gpus
    for shard in _shards(setup):
        written[shard.rank] += shard.bytes
    sent = _weights(setup) if setup.zero_stage == 3 else 0.0
    return max(written) + sum(_saved_states(setup).values()) + sent


def _shards(setup: Setup) -> tuple[Shard, ...]:
    return _shards_of(setup.model, setup.element, setup.gpus)


@lru_cache(maxsize=64)  # a choice asks for the same shards hundreds of times
def _shards_of(model: ModelSizes, element: int, gpus: int) -> tuple[Shard, ...]:
    return tuple(weight_shards({str(place): element * size for place, size in enumerate(model.tensors)}, gpus))


def with_room_for_engine(setup: Setup, limit_gib: float, most: float = 0.9) -> Setup:
    """The same setup with the largest share for vLLM that leaves construct and rollout within the limit."""
    empty = [moment for moment in stage_moments(setup) if moment.name in ("construct", "rollout")]
    awake = sum(_engine(setup).values()) / GIB
    others = max(moment.gpu_total for moment in empty) - awake
    share = int(100 * (limit_gib - others) / setup.gpu_gib) / 100
    return replace(setup, engine_share=min(max(share, 0.0), most))
