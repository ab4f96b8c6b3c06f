"""IPv6 beside IPv4, and proxies."""

from __future__ import annotations

import socket
import threading
import urllib.request
from typing import Any

import pytest
from ptst_operator.look.driver import ask_driver
from ptst_operator.look.scale import StageScale
from ptst_operator.metrics import OperatorMetrics, serve
from test_operators_children import owner
from test_operators_sizes import pods

STAGE = StageScale(first_step=0, last_step=8, completions=32, workers=8)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_the_operator_s_health_is_served_on_both_kinds_of_addresses(host: str) -> None:
    server = serve(0, OperatorMetrics(), lambda: None, lambda: None)
    try:
        with urllib.request.urlopen(f"http://{host}:{server.server_address[1]}/healthz", timeout=5) as answer:
            assert answer.read() == b"ok\n"
    finally:
        server.shutdown()
        server.server_close()


def test_a_driver_at_an_ipv6_address_is_asked_by_its_address_in_brackets() -> None:
    asked: list[bytes] = []
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening:

        def answer() -> None:
            with listening.accept()[0] as connection:
                asked.append(connection.recv(65536))
                connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nvisionr1_step 5\n")

        thread = threading.Thread(target=answer)
        thread.start()
        port = listening.getsockname()[1]
        seen = ask_driver(("::1", port), STAGE)
        thread.join(5)
    assert seen is not None and seen.step == 5
    assert f"Host: [::1]:{port}".encode() in asked[0]


def variables(env: dict[str, str]) -> list[dict[str, str]]:
    return [
        {one["name"]: one.get("value", "") for one in pod["spec"]["containers"][0]["env"]}
        for pod in pods(owner(pods={"image": "t:1", "env": env})).values()
    ]


@pytest.mark.parametrize("given", [{}, {"NO_PROXY": "s3.corp.example"}, {"no_proxy": "s3.corp.example"}])
def test_pods_behind_a_proxy_reach_the_cluster_s_own_names_without_it(given: dict[str, Any]) -> None:
    for seen in variables({"HTTPS_PROXY": "http://proxy:3128", **given}):
        assert seen["NO_PROXY"] == seen["no_proxy"]
        names = seen["NO_PROXY"].split(",")
        assert {"localhost", "127.0.0.1", "::1", ".svc", ".cluster.local"} <= set(names)
        assert ("s3.corp.example" in names) == bool(given), "the user decides what else is not behind the proxy"


def test_pods_without_a_proxy_get_no_variables_about_one() -> None:
    assert not [name for seen in variables({"A": "b"}) for name in seen if name.lower() == "no_proxy"]
