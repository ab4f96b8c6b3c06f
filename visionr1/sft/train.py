"""The process of one rank of SFT; torchrun starts it (see `visionr1.sft.launch`)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch.distributed as dist

from visionr1.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_STOPPED, BadInput, Stopped
from visionr1.progress import progress
from visionr1.rundir.recipe import read_recipe
from visionr1.sft.journal import RankJournal
from visionr1.sft.loop import run_sft
from visionr1.sft.rank import SftRank
from visionr1.signals import StopFlag
from visionr1.storage import StorageError, open_store


def main(run_url: str, recipe_sha256: str | None = None) -> None:
    """Runs this rank; leaves 1, 3 or 64 with a line in the file VISIONR1_EXIT_FILE, since torchrun passes no exit code on."""
    exit_file = Path(os.environ["VISIONR1_EXIT_FILE"])
    try:
        with StopFlag() as should_stop:
            store = open_store(run_url)
            recipe = read_recipe(store, recipe_sha256)
            assert recipe.sft is not None
            rank = SftRank(store, recipe, recipe.sft)
            with progress("SFT", rank.last_step, rank.done) as advance:
                run_sft(rank, RankJournal(rank, advance), should_stop)
    except Stopped as stopped:
        exit_file.write_text(f"{EXIT_STOPPED} {stopped}")
    except BadInput as error:
        exit_file.write_text(f"{EXIT_BAD_INPUT} {error}")
        sys.exit(1)
    except StorageError as error:
        exit_file.write_text(f"{EXIT_FAILED} {error}")
        sys.exit(1)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
