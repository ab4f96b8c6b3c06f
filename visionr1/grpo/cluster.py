"""The Ray cluster that a stage runs on: the one it is told of, or one of its own on this machine."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

OBJECT_STORE_BYTES = 256 * 2**20
"""Enough for the encoded pictures of a step on one machine."""


@contextmanager
def ray_cluster(workers: int) -> Iterator[None]:
    """Joins the cluster that RAY_ADDRESS names, or starts one on the loopback address and ends it.

    A cluster of its own is guarded by a token made for it, so that no other user of the machine can
    submit to it. Ray reads these variables when it is imported, so nothing may import it before.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if "RAY_ADDRESS" in os.environ:
        import ray

        ray.init()
        yield
        return
    with tempfile.TemporaryDirectory(prefix="visionr1-ray-") as folder:
        token = Path(folder) / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        import ray

        ray.init(
            address="local",
            num_cpus=max(workers, os.cpu_count() or 1),
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            _node_ip_address="127.0.0.1",
        )
        try:
            yield
        finally:
            ray.shutdown()
