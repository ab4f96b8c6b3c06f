"""What GPUs can do, as their makers publish it, and how many of them a run takes."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Annotated, Final

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from visionr1.capacity.work import Peak
from visionr1.errors import BadInput

NODE: Final = 8
"""GPUs of a node, where nobody says otherwise."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """One kind of GPU.

    Attributes:
        gib: memory that a process can have; less than the GB on the box.
        flops: dense bfloat16 FLOP/s, without sparsity.
        bandwidth: byte/s of its memory.
        link: byte/s to the other GPUs of its node, both directions together.
        source: where the figures are published.
        parts: words that are all in the driver's name of the card, in lower case; none for a card that a user describes.
    """

    name: str
    gib: float
    flops: float
    bandwidth: float
    link: float
    source: str
    parts: tuple[str, ...] = ()

    @property
    def peak(self) -> Peak:
        """What its work is measured against."""
        return Peak(self.name, self.flops, self.bandwidth)


def _card(name: str, gib: float, tflops: float, tb: float, link: float, parts: str, source: str) -> Card:
    return Card(
        name=name, gib=gib, flops=tflops * 1e12, bandwidth=tb * 1e12, link=link * 1e9, source=source, parts=tuple(parts.split())
    )


_HOPPER: Final = "NVIDIA H100 data sheet (nvidia.com/en-us/data-center/h100)"
_AMPERE: Final = "NVIDIA A100 data sheet (nvidia.com/en-us/data-center/a100)"
CARDS: Final = (
    _card("H100-PCIe", 79.1, 756, 2.04, 600, "h100 pcie", _HOPPER),
    _card("H100-NVL", 93.1, 835, 3.9, 600, "h100 nvl", _HOPPER),
    _card("H100", 79.1, 989, 3.35, 900, "h100", _HOPPER),
    _card("H800", 79.1, 989, 3.35, 400, "h800", "as H100, NVLink at 400 GB/s, as published by its resellers"),
    _card("H200", 139.8, 989, 4.8, 900, "h200", "NVIDIA H200 data sheet (nvidia.com/en-us/data-center/h200)"),
    _card("H20", 95.1, 148, 4.0, 900, "h20", "NVIDIA H20 data sheet, as published by its resellers"),
    _card("A100-40GB", 39.4, 312, 1.555, 600, "a100 40gb", _AMPERE),
    _card("A100-80GB", 79.1, 312, 2.039, 600, "a100", _AMPERE),
    _card("A800", 79.1, 312, 2.039, 400, "a800", "as A100-80GB, NVLink at 400 GB/s, as published by its resellers"),
    _card("L40S", 44.4, 362, 0.864, 64, "l40s", "NVIDIA L40S data sheet (nvidia.com/en-us/data-center/l40s)"),
    _card("L20", 44.4, 119.5, 0.864, 64, "l20", "NVIDIA L20 data sheet, as published by its resellers"),
    _card("B200", 178.3, 2250, 8.0, 1800, "b200", "NVIDIA DGX B200 data sheet (nvidia.com/en-us/data-center/dgx-b200)"),
    _card("MI300X", 191.0, 1307, 5.3, 896, "mi300x", "AMD Instinct MI300X data sheet (amd.com)"),
)
"""The project has not run on any of them yet, and nothing in it was written for AMD."""
CPU: Final = _card("CPU", 0, 0.06, 0.01, 10, "cpu", "a core of a laptop in float32; an estimate")
"""A worker of a recipe with `rollout.device: cpu`. Its memory is not planned."""
DESCRIBED: Final = "{memory: 80, tflops: 989, bandwidth: 3.35, link: 900}"
"""A card that is not in the list, in GiB, dense bfloat16 TFLOP/s, TB/s of memory and GB/s to the node's other GPUs."""
ALIASES: Final = {"a100-40": "A100-40GB", "a100-80": "A100-80GB", "a100": "A100-80GB"}


def card_of_driver(name: str) -> Card | None:
    """The card of a driver's name (`NVIDIA H100 80GB HBM3`) or of a node's label (`NVIDIA-H100-80GB-HBM3`); None if unknown."""
    words = set(re.split(r"[^a-z0-9]+", name.lower()))
    return next((card for card in CARDS if words.issuperset(card.parts)), None)


@dataclass(frozen=True)
class Fleet:
    """GPUs of one kind, `per_node` of them in a node at most."""

    card: Card
    count: int
    per_node: int = NODE

    @property
    def nodes(self) -> int:
        """Machines, the last one maybe not full."""
        return -(-self.count // self.per_node)

    def of(self, count: int) -> Fleet:
        """So many of the same GPUs."""
        return replace(self, count=count)

    def __str__(self) -> str:
        return f"{self.count} x {self.card.name}"


class _Described(BaseModel):
    """A card as a user writes it: GiB, dense bfloat16 TFLOP/s, TB/s of memory, GB/s to the node's other GPUs."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    memory: Annotated[float, Field(gt=0)]
    tflops: Annotated[float, Field(gt=0)]
    bandwidth: Annotated[float, Field(gt=0)]
    link: Annotated[float, Field(gt=0)]


def parse_fleet(text: str) -> Fleet:
    """`64xH800`, or `8x` and a described card (DESCRIBED).

    Raises:
        BadInput: neither.
    """
    known = ", ".join(card.name for card in CARDS)
    advice = f"write NUMBERxCARD, such as 64xH800, with one of {known}, or describe yours: 8x{DESCRIBED}"
    found = re.fullmatch(r"\s*([1-9][0-9]{0,4})\s*[xX*]\s*(.+?)\s*", text)
    if found is None:
        raise BadInput(f"--gpus: {text!r} is no number of GPUs; {advice}")
    count, what = int(found[1]), found[2]
    if what.startswith("{"):
        return Fleet(_described(what), count)
    name = ALIASES.get(what.lower(), what).lower()
    card = next((card for card in CARDS if card.name.lower() == name), None)
    if card is None:
        raise BadInput(f"--gpus: {what!r} is no card that is known here; {advice}")
    return Fleet(card, count)


def _described(text: str) -> Card:
    try:
        given = _Described.model_validate(yaml.safe_load(text))
    except (yaml.YAMLError, ValidationError) as error:
        raise BadInput(
            f"--gpus: {text} does not describe a card; give memory (GiB), tflops (dense bfloat16), bandwidth (TB/s) and link "
            "(GB/s), all as numbers more than 0"
        ) from error
    return _card("your card", given.memory, given.tflops, given.bandwidth, given.link, "", "given with --gpus")
