"""A proxy before the API server that fails as networks and overloaded API servers do, at random or as a test asks."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any
from urllib.parse import urlsplit

from control_plane import API

FAULTS = ("429", "500", "503", "reset", "unheard", "cut", "slow")
"""unheard: the request is carried out and its answer lost. cut: the answer ends in its middle. slow: it takes two seconds."""
_LATE = 2.0


class Faults:
    """What happens to a request; `choose` is asked for each, with its method and whether it is a watch.

    Attributes:
        requests: monotonic time of each request.
        done: how often each fault was done.
    """

    def __init__(self, seed: int, part: float) -> None:
        self._random, self._lock = Random(seed), threading.Lock()
        self.part = part
        self.requests: list[float] = []
        self.done: Counter[str] = Counter()
        self.choose: Callable[[str, bool], str | None] = self._at_random
        self._watches: set[socket.socket] = set()

    def next(self, method: str, watch: bool) -> str | None:
        with self._lock:
            self.requests.append(time.monotonic())
            fault = self.choose(method, watch)
            if fault:
                self.done[fault] += 1
            return fault

    def _at_random(self, method: str, watch: bool) -> str | None:
        return self._random.choice(FAULTS) if self._random.random() < self.part else None

    def watching(self, upstream: socket.socket, begins: bool) -> None:
        """A watch begins, or has ended."""
        with self._lock:
            (self._watches.add if begins else self._watches.discard)(upstream)

    def end_watches(self) -> None:
        """All that are under way, politely."""
        with self._lock:
            for upstream in self._watches:
                upstream.shutdown(socket.SHUT_RDWR)

    def rate(self, since: float) -> float:
        """Requests a second since a monotonic time."""
        return sum(one > since for one in self.requests) / (time.monotonic() - since)


class Proxy:
    """Plain HTTP here, TLS to the API server. Use as a context manager."""

    def __init__(self, faults: Faults, port: int) -> None:
        self._server = _Server(("127.0.0.1", port), _handler(faults))

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that break are what this is for."""


def _handler(faults: Faults) -> type[BaseHTTPRequestHandler]:  # noqa: C901 - a class that closes over the faults
    upstream = urlsplit(API)
    unchecked = ssl._create_unverified_context()  # the way to the API server is this machine's own

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            watch = "watch=true" in self.path
            fault = faults.next(self.command, watch)
            if fault == "slow":
                time.sleep(_LATE)
            if fault == "hang":
                time.sleep(3600)
            if fault == "empty" and watch:
                self._head(200, [("Content-Type", "application/json"), ("Content-Length", "0")])
                return
            if fault == "reset":
                self._reset()
                return
            if fault in ("429", "500", "503"):
                self._refuse(int(fault))
                return
            connection = http.client.HTTPSConnection(str(upstream.hostname), upstream.port, context=unchecked)
            try:
                headers = {key: value for key, value in self.headers.items() if key.lower() not in ("host", "connection")}
                connection.request(self.command, self.path, body or None, headers)
                upstream_socket = connection.sock
                answer = connection.getresponse()
                if watch:
                    faults.watching(upstream_socket, True)
                if fault == "unheard":
                    answer.read()
                    self._reset()
                    return
                self._answer(answer, fault == "cut")
            except (OSError, http.client.HTTPException):
                self._reset()
            finally:
                if watch and connection.sock is not None:
                    faults.watching(connection.sock, False)
                connection.close()

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass

        def _answer(self, answer: http.client.HTTPResponse, cut: bool) -> None:
            kept = [(key, value) for key, value in answer.getheaders() if key in ("Content-Type", "Retry-After", "Warning")]
            self._head(answer.status, [*kept, ("Transfer-Encoding", "chunked")])
            while piece := answer.read1(65536):
                if cut and len(piece) > 1:  # politely, so that only the words are missing
                    self._chunk(piece[: len(piece) // 2])
                    break
                self._chunk(piece)
            self._chunk(b"")

        def _chunk(self, piece: bytes) -> None:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))

        def _refuse(self, status: int) -> None:
            body = b'{"kind":"Status","apiVersion":"v1","status":"Failure","message":"played by the tests","code":%d}' % status
            headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
            self._head(status, [*headers, ("Retry-After", "1")] if status == 429 else headers)
            self.wfile.write(body)

        def _head(self, status: int, headers: list[tuple[str, str]]) -> None:
            self.send_response(status)
            for key, value in headers:
                self.send_header(key, value)
            self.end_headers()

        def _reset(self) -> None:
            """The connection is gone, without a word of goodbye."""
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.close_connection = True
            self.connection.close()

        def log_message(self, format: str, *args: Any) -> None:
            """Every request of an operator."""

    return Handler
