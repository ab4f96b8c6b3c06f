"""FLOPs that one training step executes, over those that it needs if each prompt is computed once.

Executed: every matrix product that torch makes in the step, counted by torch itself, and the pairs of queries and keys of every
attention call. Ideal: what `visionr1.capacity.work` counts: each prompt once, no padding, no recomputation, causal attention by
its pairs. Long-tailed completions, pictures of several sizes, a reference model.

    .venv/bin/python benchmarks/flops.py --json flops.json
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from grpo_step import Case, completions, make_model, ours, prompt_sizes
from rich.console import Console
from scaling import table_of
from torch.utils.flop_counter import FlopCounterMode

from visionr1.capacity.model import read_model_sizes
from visionr1.capacity.work import model_work
from visionr1.metrics.listening import free_port
from visionr1.model import attention

PRODUCTS: Final = ("mm", "addmm", "addmm_", "bmm", "baddbmm", "convolution")
IN_PLACE: Final = {torch.ops.aten.addmm_: lambda _, left, right, **__: 2 * left[0] * left[1] * right[1]}
"""A product that torch's counter does not know by itself."""
LIMIT: Final = 1.10


@dataclass(frozen=True)
class Counted:
    """FLOPs of one step, and their ratio to the ideal."""

    attention: str
    group_size: int
    tokens: int
    executed: float
    ideal: float
    ratio: float


@contextmanager
def counted_attention(total: list[float]) -> Iterator[None]:
    """Adds the FLOPs of each attention call and of its backward pass (twice as many where there is one) to `total`."""
    place: Any = attention  # the name is imported there, so it is replaced there
    real = place.scaled_dot_product_attention

    def counted(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *rest: Any, **named: Any) -> torch.Tensor:
        queries, keys = query.shape[-2], key.shape[-2]
        heads = query.shape[:-2].numel()
        causal = named.get("is_causal") or (len(rest) > 0 and rest[0] is not None)
        pairs = queries * (keys - queries) + queries * (queries + 1) // 2 if causal else queries * keys
        flops = 4.0 * heads * pairs * query.shape[-1]
        total[0] += flops * (3 if query.requires_grad else 1)
        output: torch.Tensor = real(query, key, value, *rest, **named)
        return output

    place.scaled_dot_product_attention = counted
    try:
        yield
    finally:
        place.scaled_dot_product_attention = real


def count(case: Case, folder: Path, kind: str) -> Counted:
    """Counts one step in this process."""
    total = [0.0]
    work = model_work(read_model_sizes(folder), 4)
    with counted_attention(total), FlopCounterMode(display=False, custom_mapping=IN_PLACE) as mode:
        ours(case, folder, kind)
    products = sum(flops for op, flops in mode.get_flop_counts()["Global"].items() if str(op).split(".")[-1] in PRODUCTS)
    executed = products + total[0]
    prompts, patches = prompt_sizes(case, folder)
    lengths = [[len(ids) for ids in group] for group in completions(case)]
    ideal = work.update(prompts, lengths, patches, reference=True, vision_trained=True).flops
    tokens = sum(map(sum, lengths))
    return Counted(kind, case.group_size, tokens, executed, ideal, executed / ideal)


def main() -> None:
    """Counts with prompts shared and plain, prints a table, then JSON; ends with 1 if shared rows execute more than the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, nargs="+", default=[8, 16], help="completions per prompt")
    parser.add_argument("--longest", type=int, default=512, help="tokens of the longest completion")
    parser.add_argument("--row-tokens", type=int, default=4_096, help="optimiser.micro_batch_tokens; a group of 16 needs 2,100")
    parser.add_argument("--json", type=Path, help="file for the figures")
    asked = parser.parse_args()
    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    first = Case(32_768, asked.groups[0], 4, asked.longest, asked.row_tokens, 1)
    with tempfile.TemporaryDirectory() as folder:
        make_model(first, Path(folder))
        found = [
            count(replace(first, group_size=size), Path(folder), kind) for size in asked.groups for kind in ("shared", "plain")
        ]
    rows = [asdict(one) for one in found]
    Console().print(table_of(rows, "FLOPs of one training step"))
    print(json.dumps(rows))
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n")
    if any(one.ratio > LIMIT for one in found if one.attention == "shared"):
        raise SystemExit(f"more than {LIMIT} times the ideal")


if __name__ == "__main__":
    main()
