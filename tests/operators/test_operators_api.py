"""The operator's way to the API server over a real socket, where answers are late, cut, or ask for patience."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml
from ptst_operator.api import Api, ApiError

EVENT = b'{"type": "MODIFIED", "object": {"metadata": {"name": "run", "resourceVersion": "7"}}}\n'


@dataclass
class Request:
    """What was asked."""

    method: str
    path: str
    query: dict[str, str]
    content: str
    body: Any


class Server(HTTPServer):
    """Answers everything with one answer, and keeps what was asked. The first `broken` answers end in the middle."""

    status = 200
    broken = 0
    headers: tuple[tuple[str, str], ...] = ()
    body = b"{}"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.asked: list[Request] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "null")
        query = dict(parse_qsl(asked.query))
        self.server.asked.append(Request(self.command, asked.path, query, self.headers.get("Content-Type", ""), body))
        self.send_response(self.server.status)
        for key, value in (*self.server.headers, ("Content-Length", str(len(self.server.body)))):
            self.send_header(key, value)
        self.end_headers()
        broken = len(self.server.asked) <= self.server.broken
        self.wfile.write(self.server.body[: 1 if broken else None])
        self.close_connection = broken

    do_PATCH = do_PUT = do_DELETE = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as made:
        threading.Thread(target=made.serve_forever, args=(0.05,), daemon=True).start()
        yield made
        made.shutdown()


@pytest.fixture(params=[None, "", "10.0.0.0/8,.svc"], ids=["no proxy", "a proxy", "a proxy for others"])
def environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that nobody can reach, for everything but what NO_PROXY names."""
    if request.param is not None:
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("NO_PROXY", request.param)


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
    seen: list[Any] = []
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
    assert time.monotonic() - begun < 2 and len(server.asked) == 1


READ_TWICE: list[tuple[int, int, str | None]] = [(0, 1, None), (1, 2, None), (2, 2, "IncompleteRead")]


@pytest.mark.parametrize(("broken", "times", "error"), READ_TWICE)
def test_a_read_whose_connection_breaks_is_tried_once_more(
    broken: int, times: int, error: str | None, api: Api, server: Server
) -> None:
    server.broken = broken
    if error is None:
        assert api.get("PTSTRun", "run") == {}
    else:
        with pytest.raises(ApiError, match=error):
            api.get("PTSTRun", "run")
    assert len(server.asked) == times


def test_a_write_whose_connection_breaks_is_not_repeated(api: Api, server: Server) -> None:
    """It may have been carried out: what to do now is decided by what is there."""
    server.broken = 1
    with pytest.raises(ApiError):
        api.apply({"kind": "ConfigMap", "metadata": {"name": "one"}})
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("read", "query"),
    [
        (lambda api: api.get("RayCluster", "run-ray-0"), {}),
        (lambda api: api.list("Pod", "a=b"), {"labelSelector": "a=b"}),
        (lambda api: api.list("PTSTRun"), {}),
    ],
    ids=["get", "list by label", "list"],
)
def test_a_read_asks_for_what_is_now(read: Callable[[Api], object], query: dict[str, str], api: Api, server: Server) -> None:
    """With a resourceVersion, such as 0, the API server may answer with what it once knew."""
    read(api)
    assert [(one.method, one.query) for one in server.asked] == [("GET", query)]


@pytest.mark.usefixtures("environment")
def test_the_api_server_is_never_asked_through_a_proxy(server: Server, request: pytest.FixtureRequest) -> None:
    api: Api = request.getfixturevalue("api")
    api.get("PTSTRun", "run")
    assert len(server.asked) == 1


def test_what_is_applied_is_the_operator_s_whoever_wrote_it_before(api: Api, server: Server) -> None:
    api.apply({"kind": "RayJob", "metadata": {"name": "x"}})
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("PATCH", "/apis/ray.io/v1/namespaces/default/rayjobs/x")
    assert asked.query == {"fieldManager": "ptst-operator", "force": "true", "fieldValidation": "Strict"}
    assert asked.content == "application/apply-patch+yaml"


@pytest.mark.parametrize(("kind", "policy"), [("RayCluster", "Foreground"), ("Job", "Foreground"), ("TrainJob", "Background")])
def test_only_the_object_that_was_seen_is_deleted(kind: str, policy: str, api: Api, server: Server) -> None:
    api.delete(kind, "x", "uid-1")
    (asked,) = server.asked
    assert asked.method == "DELETE" and asked.body == {"propagationPolicy": policy, "preconditions": {"uid": "uid-1"}}


def test_a_word_that_an_older_definition_does_not_know_is_told(api: Api, server: Server) -> None:
    said = 'status.phases[0].attempts[0].stopping.reason: Unsupported value: "Outdated"'
    server.status, server.body = 422, json.dumps({"message": said}).encode()
    meta = {"name": "run", "namespace": "default", "uid": "u", "resourceVersion": "1"}
    with pytest.raises(ApiError, match='"Outdated"; the definition is older than the operator'):
        api.write_status({"apiVersion": "visionr1.io/v1", "kind": "PTSTRun", "metadata": meta, "spec": {}}, {})
