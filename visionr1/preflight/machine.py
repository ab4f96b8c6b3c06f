"""What a machine's settings can spoil: folders, ports, addresses and proxies."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from visionr1.metrics.listening import place
from visionr1.recipe.schema import Metrics

ANSWER_SECONDS: Final = 20.0
"""How long a Ray cluster may take to answer."""
_LONGEST_SOCKET: Final = 107
"""Characters of a Unix socket's path on Linux."""
_RAY_SOCKET: Final = "ray/session_2026-01-01_00-00-00_000000_{pid}/sockets/plasma_store"
"""The longest socket that Ray makes below its folder; the date has always the same length."""
_PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy")
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
IN_CLUSTER: Final = (".svc", ".cluster.local")
"""What the names of Services end with, in most clusters."""
_RESOLVER: Final = Path("/etc/resolv.conf")
_GPU: Final = Path("/dev/nvidiactl")


def ray_address(environment: Mapping[str, str]) -> str | None:
    """The Ray cluster that RAY_ADDRESS names; None for none, and for `local`, which asks for one of our own."""
    address = environment.get("RAY_ADDRESS", "").strip()
    return None if address in ("", "local") else address


def ray_folder_fault(environment: Mapping[str, str]) -> str | None:
    """What is wrong with the folder in which a Ray cluster of our own makes its sockets; None if nothing is."""
    if ray_address(environment) is not None:
        return None
    name = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in environment), None)
    if name is None:
        return None
    folder = environment[name]
    most = _LONGEST_SOCKET - 1 - len(_RAY_SOCKET.format(pid=os.getpid()))
    if len(os.fsencode(folder.rstrip("/"))) <= most:
        return None
    return (
        f"{name}: {folder} is too long for Ray, whose sockets are below it: set RAY_TMPDIR to a folder whose path has at most "
        f"{most} characters, such as /tmp"
    )


def ray_address_fault(environment: Mapping[str, str], seconds: float = ANSWER_SECONDS) -> str | None:
    """Tries to reach the host and port that RAY_ADDRESS names; says what is wrong, or None."""
    address = ray_address(environment)
    if address in (None, "auto"):
        return None
    try:
        parts = urlsplit(address if "://" in str(address) else f"ray://{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or port is None:
        return f"RAY_ADDRESS: {address} is not host:port: correct it, or unset it to start a Ray cluster on this machine"
    try:
        socket.create_connection((host, port), timeout=seconds).close()
    except OSError as error:
        return silent_ray(str(address), error.strerror or str(error))
    return None


def silent_ray(address: str, why: str) -> str:
    """The line about a Ray cluster that does not answer."""
    return (
        f"RAY_ADDRESS: no Ray cluster answers at {address} ({why}): start it, correct the address, or unset RAY_ADDRESS to start "
        "one on this machine"
    )


def port_note(metrics: Metrics) -> str | None:
    """A line if another program listens where metrics are to be served; they are then served on any free port."""
    if not metrics.enabled or metrics.port == 0:
        return None
    family, host = place(metrics.host)
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, metrics.port))
        except OSError as error:
            return (
                f"metrics.port: cannot listen on {metrics.host}, port {metrics.port} ({error.strerror}); another free port is "
                "taken, and the log of each phase says which"
            )
    return None


def keep_own_direct(environment: MutableMapping[str, str], resolver: Path = _RESOLVER) -> None:
    """Where a proxy is set, sees that it is not asked for this very machine; in a pod, also not for the cluster's own names.

    Args:
        resolver: resolv.conf, where the kubelet writes the domain of the cluster.
    """
    own: tuple[str, ...] = _LOOPBACK
    if server := environment.get("KUBERNETES_SERVICE_HOST"):
        own = (*own, server, *IN_CLUSTER, *_service_domains(resolver))
    environment.update(direct_names(environment, own))


def direct_names(environment: Mapping[str, str], own: Sequence[str] = (*_LOOPBACK, *IN_CLUSTER)) -> dict[str, str]:
    """NO_PROXY in both spellings: what the environment has, and `own`. Empty without a proxy."""
    if not any(environment.get(name) or environment.get(name.upper()) for name in _PROXIES):
        return {}
    named = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    direct = [host.strip() for host in named.split(",") if host.strip()]
    if "*" not in direct:
        direct += [host for host in dict.fromkeys(own) if host not in direct]
    return dict.fromkeys(("no_proxy", "NO_PROXY"), ",".join(direct))


def _service_domains(resolver: Path) -> list[str]:
    """Domain of the cluster, with a dot before it: of `search team.svc.k8s.example svc.k8s.example`, `.k8s.example`."""
    try:
        words = resolver.read_text().split()
    except OSError:  # a machine without one has no such domain
        return []
    return [word.removeprefix("svc") for word in words if word.startswith("svc.")]


def has_gpu() -> bool:
    """Whether NVIDIA's driver is there."""
    return _GPU.exists()
