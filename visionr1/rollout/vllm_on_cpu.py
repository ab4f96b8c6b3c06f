"""What vLLM needs on a CPU, wherever it is started."""

from __future__ import annotations

import ctypes
from typing import Final

from visionr1.errors import BadInput

ENVIRONMENT: Final = {
    # The CPU worker otherwise binds threads and memory for itself and takes them from the trainer.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_CI_ENV": "1",
    # A slim image has no C++ compiler, which vLLM's compiled functions would need.
    "TORCHDYNAMO_DISABLE": "1",
}


def require_libnuma() -> None:
    """Without it vLLM starts all the same, with a warning, and fails at the first of its own operators. Raises BadInput."""
    try:
        ctypes.CDLL("libnuma.so.1")
    except OSError as error:
        raise BadInput(
            f"vLLM on a CPU needs libnuma ({error}): install it (Debian, Ubuntu: apt-get install libnuma1), or use --rollout hf"
        ) from error
