"""A proxy of our own between boto3 and an S3 server, which answers as a real, bad day would."""

import base64
import http.client
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ANSWERS = {
    "500": (500, "InternalError"),
    "503": (503, "SlowDown"),
    "expired": (403, "ExpiredToken"),
    "skewed": (403, "RequestTimeTooSkewed"),
}
"""Refusals that never reach the server."""
KINDS = (*ANSWERS, "latency", "reset", "lost answer", "truncated", "damaged", "wrong ETag")


@dataclass
class Fault:
    """One thing that goes wrong: with the next `times` requests of `method` whose path has `key` in it.

    latency: half a second more. reset: the connection breaks in the middle of the body. lost answer: the server does what it
    was asked, the connection breaks. truncated: half of the body arrives, and nobody says that
    it is half (no checksum either); damaged: one byte of it is another.
    A body is the request's for PUT, else the answer's.
    """

    kind: str
    method: str = "PUT"
    key: str = ""
    times: int = 1


class Proxy:
    """Listens on the loopback address until `close`.

    Args:
        upstream: Address of the S3 server.
        bytes_per_second: What all request bodies together may take; None is no limit.
    """

    def __init__(self, upstream: str, bytes_per_second: float | None = None) -> None:
        self.upstream = upstream.removeprefix("http://")
        self.faults: list[Fault] = []
        self.seen: list[str] = []  # "PUT /bucket/key" of each request that was answered by the server
        self.held: Callable[[str], bool] = lambda request: False
        self.bytes_per_second = bytes_per_second
        self._free_at = 0.0
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def handle(self, request: "_Handler") -> None:  # noqa: C901 - each fault at the moment where it strikes
        line = f"{request.command} {request.path.partition('?')[0]}"
        fault = self._fault(request.command, request.path)
        length = int(request.headers.get("Content-Length", 0))
        if fault == "reset" and length:
            request.rfile.read(length // 2)
            return request.reset()
        body = request.rfile.read(length)
        self._throttle(length)
        while self.held(line):
            time.sleep(0.01)
        if fault == "latency":
            time.sleep(0.5)
        if fault in ANSWERS:
            return request.answer(*_refusal(*ANSWERS[fault]), tell_length=True)
        uploading = request.command == "PUT"
        if uploading and fault in ("truncated", "damaged"):
            body = _spoiled(body, fault)
        if fault != "truncated" and not _sound(body, request.headers.get("x-amz-checksum-crc32")):
            return request.answer(*_refusal(400, "BadDigest"), tell_length=True)
        status, headers, data = self._forward(request, body)
        with self._lock:
            self.seen.append(line)
        if fault == "reset":
            request.answer(status, headers, data[: len(data) // 2], tell_length=False)
        if fault in ("reset", "lost answer"):
            return request.reset()
        if fault == "wrong ETag":
            headers = _with(headers, "etag", f'"{"0" * 32}"')
        if not uploading and fault in ("truncated", "damaged"):
            data = _spoiled(data, fault)
            headers = _with(headers, "content-length", str(len(data)))
        return request.answer(status, headers, data, tell_length=False)

    def _fault(self, method: str, path: str) -> str | None:
        with self._lock:
            for fault in self.faults:
                if fault.times and fault.method == method and fault.key in path:
                    fault.times -= 1
                    return fault.kind
        return None

    def _throttle(self, length: int) -> None:
        """One pipe for all connections."""
        if self.bytes_per_second:
            with self._lock:
                self._free_at = max(self._free_at, time.monotonic()) + length / self.bytes_per_second
                ready = self._free_at
            time.sleep(max(0.0, ready - time.monotonic()))

    def _forward(self, request: "_Handler", body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in ("host", "expect")}
        headers["Host"] = self.upstream
        if "Content-Length" in headers:
            headers["Content-Length"] = str(len(body))
        connection = http.client.HTTPConnection(self.upstream, timeout=60)
        try:
            connection.request(request.command, request.path, body, headers)
            answer = connection.getresponse()
            data = answer.read()
            kept = [
                (name, value) for name, value in answer.getheaders() if name.lower() not in ("connection", "transfer-encoding")
            ]
            return answer.status, kept, data
        finally:
            connection.close()


class _Server(ThreadingHTTPServer):
    proxy: Proxy


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = lambda self: self.server.proxy.handle(self)

    def answer(self, status: int, headers: list[tuple[str, str]], data: bytes, *, tell_length: bool) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if tell_length or not any(name.lower() == "content-length" for name, _ in headers):
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def reset(self) -> None:
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RD)
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:
        """The tests say what they see."""


def _with(headers: list[tuple[str, str]], name: str, value: str) -> list[tuple[str, str]]:
    return [(key, value if key.lower() == name else old) for key, old in headers]


def _spoiled(body: bytes, fault: str | None) -> bytes:
    if fault == "truncated":
        return body[: len(body) // 2]
    if fault == "damaged" and body:
        middle = len(body) // 2
        return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
    return body


def _sound(body: bytes, crc32: str | None) -> bool:
    """moto does not look at the checksum that boto3 sends with a body; S3 does."""
    return crc32 is None or base64.b64decode(crc32) == zlib.crc32(body).to_bytes(4)


def _refusal(status: int, code: str) -> tuple[int, list[tuple[str, str]], bytes]:
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}, says the proxy</Message></Error>"
    return status, [("Content-Type", "application/xml")], text.encode()
