"""Settings of a machine that would spoil a run."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from visionr1.preflight.machine import (
    keep_own_direct,
    port_note,
    ray_address,
    ray_address_fault,
    ray_folder_fault,
)
from visionr1.recipe.schema import Metrics


@pytest.mark.parametrize(("value", "expected"), [("", None), (" ", None), ("local", None), ("auto", "auto"), ("a:1", "a:1")])
def test_an_empty_ray_address_is_none(value: str, expected: str | None) -> None:
    assert ray_address({"RAY_ADDRESS": value}) == expected
    assert ray_address({}) is None


def test_the_longest_folder_still_has_room_for_the_longest_socket() -> None:
    longest = 107 - len(f"/ray/session_2026-11-28_12-35-33_123456_{os.getpid()}/sockets/plasma_store")
    fits = "/" + "a" * (longest - 1)
    assert ray_folder_fault({"TMPDIR": fits}) is None
    assert ray_folder_fault({"TMPDIR": fits + "/"}) is None
    assert ray_folder_fault({}) is None
    fault = ray_folder_fault({"TMPDIR": fits + "b"})
    assert fault and fault.startswith(f"TMPDIR: {fits}b is too long for Ray") and f"at most {longest} characters" in fault
    assert ray_folder_fault({"TMPDIR": fits + "b", "RAY_TMPDIR": "/tmp"}) is None
    assert ray_folder_fault({"TMPDIR": fits + "b", "RAY_ADDRESS": "a:1"}) is None


@pytest.mark.parametrize("address", ["nonsense", "host:", "host:port", "host:99999"])
def test_a_ray_address_that_is_none(address: str) -> None:
    fault = ray_address_fault({"RAY_ADDRESS": address})
    assert fault and fault.startswith(f"RAY_ADDRESS: {address} is not host:port")


def test_a_ray_cluster_that_is_there_or_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert ray_address_fault({"RAY_ADDRESS": address}) is None
        assert ray_address_fault({"RAY_ADDRESS": f"ray://{address}"}) is None
    begun = time.monotonic()
    fault = ray_address_fault({"RAY_ADDRESS": address}, seconds=2)
    assert fault and "no Ray cluster answers at" in fault
    assert time.monotonic() - begun < 5
    assert ray_address_fault({}) is None


def test_a_taken_port_is_a_note() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        note = port_note(Metrics(port=port))
        assert note and note.startswith(f"metrics.port: cannot listen on 127.0.0.1, port {port} (Address already in use)")
        assert port_note(Metrics(port=port, enabled=False)) is None
    assert port_note(Metrics(port=port)) is None
    assert port_note(Metrics(port=0)) is None


@pytest.mark.parametrize(
    ("environment", "direct"),
    [
        ({"http_proxy": "http://p:1"}, "localhost,127.0.0.1,::1"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "example.org,localhost"}, "example.org,localhost,127.0.0.1,::1"),
        ({"all_proxy": "socks5://p:1", "no_proxy": "*"}, "*"),
    ],
)
def test_no_proxy_is_asked_for_this_machine(environment: dict[str, str], direct: str) -> None:
    keep_own_direct(environment)
    assert environment["no_proxy"] == environment["NO_PROXY"] == direct


def test_without_a_proxy_nothing_is_changed() -> None:
    environment = {"NO_PROXY": "a", "http_proxy": ""}
    keep_own_direct(environment)
    assert environment == {"NO_PROXY": "a", "http_proxy": ""}


def test_no_proxy_is_asked_for_a_cluster_s_own_names(tmp_path: Path) -> None:
    resolver = tmp_path / "resolv.conf"
    resolver.write_text("search vision.svc.k8s.example svc.k8s.example k8s.example corp.example\nnameserver 10.96.0.10\n")
    environment = {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "s3.corp.example, 10.0.0.0/8", "KUBERNETES_SERVICE_HOST": "fd00::1"}
    keep_own_direct(environment, resolver)
    own = "localhost,127.0.0.1,::1,fd00::1,.svc,.cluster.local,.k8s.example"
    assert environment["NO_PROXY"] == environment["no_proxy"] == f"s3.corp.example,10.0.0.0/8,{own}"
    keep_own_direct(environment, tmp_path / "none")
    assert environment["NO_PROXY"] == f"s3.corp.example,10.0.0.0/8,{own}", "each name is there once"
