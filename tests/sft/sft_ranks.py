"""What the ranks of the SFT tests do: `visionr1 sft` without torchrun, and the faults that are planted in it."""

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from visionr1.engine.saving import Parts
from visionr1.engine.zero import join_process_group
from visionr1.errors import BadInput, Fenced, Stopped
from visionr1.model.device import device_of
from visionr1.recipe import load_recipe, to_yaml
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.epoch import newest_epoch
from visionr1.rundir.layout import RECIPE
from visionr1.rundir.recipe import read_recipe
from visionr1.sft.journal import RankJournal
from visionr1.sft.loop import run_sft
from visionr1.sft.rank import SftRank
from visionr1.sft.saving import RankSaving
from visionr1.sft.train import taken_over
from visionr1.storage import open_store


@dataclass(frozen=True)
class Faults:
    """What goes wrong.

    The request to stop comes in a step, all ranks die just before a step is committed, or they
    are cut off there until another attempt has taken the run over.
    """

    stop_in: int | None = None
    die_before_commit_of: int | None = None
    cut_off_before_commit_of: int | None = None


class Killed(BaseException):
    """Not caught by anything, as SIGKILL is not."""


def prepare(run: Path | str, data: Path, *settings: str) -> str:
    """A run directory for SFT alone."""
    recipe = load_recipe(
        "demo",
        [
            "coldstart=null",
            "stages=[]",
            "data.held_out=null",
            f"sft.data.path={data}",
            "sft.max_steps=6",
            "sft.epochs=9",
            "sft.global_batch_size=4",
            "sft.checkpoint_every=2",
            "sft.micro_batch_tokens=256",
            "metrics.enabled=false",
            *settings,
        ],
    )
    open_store(str(run)).write_bytes(RECIPE, to_yaml(recipe).encode())
    return str(run)


def sft(run: str, faults: Faults = Faults()) -> str:
    """Runs a rank to its end; says how that was."""
    torch.manual_seed(int(os.environ["RANK"]))  # nothing may depend on it
    store = open_store(run)
    recipe = read_recipe(store)
    assert recipe.sft is not None
    _plant(faults)
    taken = 0

    def should_stop() -> bool:
        nonlocal taken
        taken += 1
        return rank.done + taken == faults.stop_in

    try:
        device = device_of(recipe)
        join_process_group(device)
        fenced = taken_over(store, device)
        with fenced.blamed():
            rank = SftRank(fenced, recipe, recipe.sft, device)
            run_sft(rank, RankJournal(rank, lambda n, note="": None), should_stop)
    except (Stopped, Fenced) as end:
        return str(end)
    except BadInput as error:
        return str(error)
    except Killed:
        return "killed"
    return "done"


def sft_on_s3(run: str, environment: dict[str, str], scratch: str) -> str:
    """The same as `sft` with a bucket's settings, and with another machine's TMPDIR."""
    os.environ |= environment
    tempfile.tempdir = scratch
    return sft(run)


def _no_pickle(*_: object) -> None:
    raise AssertionError("a rank sends or reads a pickle: anybody who joins the group could send one that runs code")


def _plant(faults: Faults) -> None:
    # Torch's own way for objects, whoever calls it: ours, DeepSpeed's.
    for name in ("_object_to_tensor", "_tensor_to_object"):
        assert hasattr(torch.distributed.distributed_c10d, name)
        setattr(torch.distributed.distributed_c10d, name, _no_pickle)
    commit, commit_of_all = Checkpoints.commit, RankSaving.commit

    def dying(self: Checkpoints, step: int, *rest: Any) -> int:
        while step == faults.cut_off_before_commit_of and newest_epoch(self.store) == 1:
            time.sleep(0.05)
        if step == faults.die_before_commit_of:
            raise Killed
        return commit(self, step, *rest)

    def all_dying(self: RankSaving, step: int, parts: Parts, state: dict[str, Any], *, wait: bool) -> None:
        here = step == faults.die_before_commit_of
        if here and dist.get_rank() != 0:
            self._checkpoints.upload(step, parts[dist.get_rank()])
            raise Killed
        commit_of_all(self, step, parts, state, wait=wait or here)

    Checkpoints.commit = dying  # type: ignore[method-assign, assignment]
    RankSaving.commit = all_dying  # type: ignore[method-assign]
