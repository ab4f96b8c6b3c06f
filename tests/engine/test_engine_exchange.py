"""Bytes go between ranks whole and in order, whatever their lengths."""

import os

import torch
from ranks import run_ranks

from visionr1.engine.exchange import from_all, from_rank_0
from visionr1.engine.zero import join_process_group

CPU = torch.device("cpu")
SENT = [b"", b"\x00\x01\x00", bytes(range(256)) * 999]


def exchanged() -> tuple[list[bytes], bytes, bytes]:
    join_process_group(CPU)
    rank = int(os.environ["RANK"])
    return from_all(SENT[rank], CPU), from_rank_0(SENT[2 - rank], CPU), from_rank_0(SENT[rank], CPU)


def test_every_rank_has_the_bytes_of_all() -> None:
    assert run_ranks(exchanged, 3) == [(SENT, SENT[2], SENT[0])] * 3
