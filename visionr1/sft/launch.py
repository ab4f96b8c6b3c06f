"""Starts the ranks of SFT by torchrun, alone or as one node of a PyTorchJob or TrainJob."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Final

import psutil

from visionr1.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_FENCED, EXIT_STOPPED, BadInput, Fenced, Stopped
from visionr1.metrics.listening import free_port
from visionr1.recipe.phases import SFT_PHASE, Phase
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.committed import committed
from visionr1.rundir.recipe import read_recipe
from visionr1.storage import StorageError, open_store

_LOOK_SECONDS: Final = 0.5
_BARRIER_SECONDS: Final = 10.0
"""For the other nodes' torchrun to end with ours, which would wait five minutes for one that is lost."""
_ERRORS: Final = {EXIT_FAILED: StorageError, EXIT_STOPPED: Stopped, EXIT_FENCED: Fenced, EXIT_BAD_INPUT: BadInput}
"""What a rank left in its exit file, as the error that it was."""


def run(run_url: str, recipe_sha256: str | None = None) -> None:
    """Runs SFT of the run directory's recipe to its end, from where it was.

    On a cluster PET_* variables say where the other nodes are; elsewhere
    torchrun makes a group of `sft.processes` on this machine. `recipe_sha256` is as in `read_recipe`.

    Raises:
        BadInput: the recipe has no sft section, or a rank found bad data.
        Stopped: SIGTERM or Ctrl-C came; the last step, if there was one, is committed.
        Fenced: another attempt has taken the run over.
        StorageError: a rank could not read or write the run directory.
        RuntimeError: a rank failed; its traceback is in the log above.
    """
    store = open_store(run_url)
    recipe = read_recipe(store, recipe_sha256)
    if recipe.sft is None:
        raise BadInput("the recipe has no sft section: there is nothing to fine-tune")
    if committed(store, Phase(SFT_PHASE, "sft")).complete:
        return
    with tempfile.TemporaryDirectory(prefix="visionr1-sft-") as folder:
        exit_file = Path(folder) / "exit"
        environment = os.environ | {
            "VISIONR1_EXIT_FILE": str(exit_file),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        }
        with _Forwarding() as forwarding:
            code = forwarding.run(_command(recipe.sft.processes, run_url, recipe_sha256), environment, exit_file)
        if exit_file.exists():
            kind, _, message = exit_file.read_text().partition(" ")
            raise _ERRORS[int(kind)](message)
    if code != 0 and forwarding.asked:
        raise Stopped("SFT was stopped before a step; it continues from its last checkpoint, if there is one")
    if code != 0:
        raise RuntimeError(f"torchrun ended with exit code {code}: a rank of SFT failed, see the lines above")
    if Checkpoints(store, SFT_PHASE).latest() is None:
        raise RuntimeError("SFT ended without a committed checkpoint")


def _command(processes: int, run_url: str, recipe_sha256: str | None) -> list[str]:
    # Not --standalone: its store holds pickles, and listens on all addresses.
    alone = ["--nnodes=1", "--node-rank=0", "--master-addr=127.0.0.1", f"--master-port={free_port()}"]
    where = [] if "PET_NNODES" in os.environ else alone
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        *where,
        f"--nproc-per-node={processes}",
        "-m",
        "visionr1.sft.train",
        run_url,
        *([] if recipe_sha256 is None else [recipe_sha256]),
    ]


class _Forwarding:
    """Passes SIGTERM and Ctrl-C to the ranks, not to torchrun, which would kill them 30 s later.

    Ranks that are not there yet, or still import, cannot hear it and have nothing to lose: they are ended.
    """

    def __init__(self) -> None:
        self._torchrun: subprocess.Popen[bytes] | None = None
        self.asked = False

    def __enter__(self) -> _Forwarding:
        self._before = {number: signal.signal(number, self._forward) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def run(self, command: list[str], environment: dict[str, str], exit_file: Path) -> int:
        """Starts torchrun, and returns its exit code; once its ranks have ended by `exit_file` it has seconds to end, too."""
        self._torchrun = subprocess.Popen(command, env=environment, start_new_session=True)
        if self.asked:  # the stop came while it was started, so it has no signal yet
            self._stop()
        seconds_left = _BARRIER_SECONDS
        while True:
            try:
                return self._torchrun.wait(_LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                seconds_left -= _LOOK_SECONDS if exit_file.exists() and not self._ranks() else 0.0
            if seconds_left < 0:
                self._torchrun.kill()  # while it waits it hears no other signal, and it has nothing to lose

    def _ranks(self) -> list[psutil.Process]:
        assert self._torchrun is not None
        try:
            return psutil.Process(self._torchrun.pid).children()
        except psutil.NoSuchProcess:
            return []

    def _forward(self, number: int, _: FrameType | None) -> None:
        self.asked = True
        self._stop()

    def _stop(self) -> None:
        if self._torchrun is None:
            return
        with suppress(psutil.NoSuchProcess):  # one that has just ended by itself needs no signal
            for process in self._ranks() or [psutil.Process(self._torchrun.pid)]:
                process.terminate()
