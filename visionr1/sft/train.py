"""The process of one rank of SFT; torchrun starts it (see `visionr1.sft.launch`)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from visionr1.engine.zero import join_process_group
from visionr1.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_FENCED, EXIT_STOPPED, BadInput, Fenced, Stopped
from visionr1.model.device import device_of
from visionr1.progress import progress
from visionr1.recipe.phases import SFT_PHASE
from visionr1.rundir.epoch import FencedStore
from visionr1.rundir.recipe import read_recipe
from visionr1.rundir.takeover import take_over
from visionr1.sft.journal import RankJournal
from visionr1.sft.loop import run_sft
from visionr1.sft.rank import SftRank
from visionr1.signals import StopFlag
from visionr1.storage import StorageError, Store, open_store


def main(run_url: str, recipe_sha256: str | None = None) -> None:
    """Runs this rank; leaves 1, 3, 4 or 64 with a line in the file VISIONR1_EXIT_FILE, since torchrun passes no exit code on."""
    exit_file = Path(os.environ["VISIONR1_EXIT_FILE"])
    try:
        with StopFlag() as should_stop:
            recipe = read_recipe(open_store(run_url), recipe_sha256)
            assert recipe.sft is not None
            device = device_of(recipe)
            join_process_group(device)
            store = taken_over(open_store(run_url), device)
            with store.blamed():
                rank = SftRank(store, recipe, recipe.sft, device)
                with progress("SFT", rank.last_step, rank.done) as advance:
                    run_sft(rank, RankJournal(rank, advance), should_stop)
    except Stopped as stopped:
        exit_file.write_text(f"{EXIT_STOPPED} {stopped}")
    except Fenced as fenced:
        exit_file.write_text(f"{EXIT_FENCED} {fenced}")
        sys.exit(1)
    except BadInput as error:
        exit_file.write_text(f"{EXIT_BAD_INPUT} {error}")
        sys.exit(1)
    except StorageError as error:
        exit_file.write_text(f"{EXIT_FAILED} {error}")
        sys.exit(1)
    dist.destroy_process_group()


def taken_over(store: Store, device: torch.device) -> FencedStore:
    """The run, taken over by rank 0 for all ranks; collective."""
    epoch = torch.zeros(1, dtype=torch.int64, device=device)
    if dist.get_rank() == 0:
        epoch.fill_(take_over(store, SFT_PHASE).epoch)
    dist.broadcast(epoch, 0)
    return FencedStore(store, int(epoch))


if __name__ == "__main__":
    main(*sys.argv[1:])
