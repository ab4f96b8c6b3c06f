"""An endpoint with bad manners: real HTTP over real sockets, one behaviour per request, in the order that a test gives."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from local_server import served

Behaviour = Callable[["Handler"], None]


@dataclass
class RudeEndpoint:
    """`behaviours` are used up one per request; after them every request gets `last`. `times` are when requests came."""

    url: str
    last: Behaviour
    behaviours: list[Behaviour] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    gone: threading.Event = field(default_factory=threading.Event)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    endpoint: RudeEndpoint
    asked: dict[str, Any]

    def do_POST(self) -> None:
        request = self.asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.endpoint.lock:
            self.endpoint.times.append(time.monotonic())
            self.endpoint.requests.append(request)
            self.endpoint.paths.append(self.path)
            behaviour = self.endpoint.behaviours.pop(0) if self.endpoint.behaviours else self.endpoint.last
        behaviour(self)

    def head(self, status: int, length: int, kind: str = "application/json", **headers: str) -> None:
        self.send_response_only(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(length), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


def says(
    text: str = "yes", reasoning: str | None = None, finish: str | None = "stop", usage: tuple[int, int] | None = None
) -> Behaviour:
    message = {"role": "assistant", "content": text, "reasoning_content": reasoning}
    whole: dict[str, Any] = {"choices": [{"index": 0, "message": message, "finish_reason": finish}]}
    if usage:
        whole["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return sends(200, json.dumps(whole))


def answers(reply: Callable[[str], str], usage: tuple[int, int] = (10, 5)) -> Behaviour:
    """A server with a mind of its own: `reply` gets the text of the request."""

    def behave(handler: Handler) -> None:
        content = handler.asked["messages"][-1]["content"]
        text = content if isinstance(content, str) else content[-1]["text"]
        says(reply(text), usage=usage)(handler)

    return behave


def sends(status: int, body: str, kind: str = "application/json", **headers: str) -> Behaviour:
    def behave(handler: Handler) -> None:
        handler.head(status, len(body.encode()), kind, **headers)
        handler.wfile.write(body.encode())

    return behave


def silent(handler: Handler) -> None:
    handler.endpoint.gone.wait(30)


def half(handler: Handler) -> None:
    handler.head(200, 5000)
    handler.wfile.write(b'{"choices": [{"mess')
    handler.wfile.flush()
    handler.endpoint.gone.wait(30)


def reset(handler: Handler) -> None:
    handler.head(200, 5000)
    handler.wfile.write(b'{"choices": [{"mess')
    handler.close_connection = True


def dribble(handler: Handler) -> None:
    handler.head(200, 100_000)
    while not handler.endpoint.gone.wait(0.05):
        handler.wfile.write(b" ")
        handler.wfile.flush()


def endless(handler: Handler) -> None:
    handler.head(200, 1 << 40)
    while not handler.endpoint.gone.is_set():
        handler.wfile.write(b" " * (1 << 16))


@contextmanager
def rude_endpoint(*behaviours: Behaviour, last: Behaviour | None = None) -> Iterator[RudeEndpoint]:
    endpoint = RudeEndpoint("", last or says(), [*behaviours])
    handler = type("OwnHandler", (Handler,), {"endpoint": endpoint})

    with served(handler) as endpoint.url:
        try:
            yield endpoint
        finally:
            endpoint.gone.set()
