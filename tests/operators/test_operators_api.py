"""The operator's way to the API server over a real socket, where answers are late, cut, or ask for patience."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from ptst_operator.api import Api, ApiError

EVENT = b'{"type": "MODIFIED", "object": {"metadata": {"name": "run", "resourceVersion": "7"}}}\n'


class Server(HTTPServer):
    """Answers everything with one answer."""

    status = 200
    headers: tuple[tuple[str, str], ...] = ()
    body = b""
    asked = 0


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked += 1
        self.send_response(self.server.status)
        for key, value in (*self.server.headers, ("Content-Length", str(len(self.server.body)))):
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as made:
        threading.Thread(target=made.serve_forever, args=(0.05,), daemon=True).start()
        yield made
        made.shutdown()


@pytest.fixture
def api(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Api:
    config = {
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    file = tmp_path / "config"
    file.write_text(yaml.safe_dump(config))
    # The client reads KUBECONFIG when it is imported.
    for module in ("kubernetes.config", "kubernetes.config.kube_config"):
        monkeypatch.setattr(f"{module}.KUBE_CONFIG_DEFAULT_LOCATION", str(file))
    return Api.connected("default")


def test_a_watch_that_ends_in_the_middle_of_a_line_is_a_failed_call(api: Api, server: Server) -> None:
    """As behind a load balancer that closes what it thinks idle."""
    server.body = EVENT + EVENT[:30]
    seen = []
    with pytest.raises(ApiError) as caught:
        seen.extend(api.watch("PTSTRun", "1", 5))
    assert caught.value.status == 0 and "\n" not in str(caught.value)


@pytest.mark.parametrize("status", [429, 503])
def test_an_answer_that_asks_for_patience_does_not_hold_a_worker(status: int, api: Api, server: Server) -> None:
    """The operator waits by its own backoff, and looks after other runs meanwhile."""
    server.status, server.headers = status, (("Retry-After", "2"),)
    begun = time.monotonic()
    with pytest.raises(ApiError) as caught:
        api.get("PTSTRun", "run")
    assert caught.value.status == status
    assert time.monotonic() - begun < 2 and server.asked == 1
