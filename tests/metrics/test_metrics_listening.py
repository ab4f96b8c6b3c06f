"""The small HTTP server of operator and pods: who hangs up fills no log, and what is broken does."""

import socket
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from visionr1.metrics.listening import HttpServer

GONE = threading.Event()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/broken":
            raise ArithmeticError("on purpose")
        GONE.wait(10)
        for _ in range(100):
            self.wfile.write(b"x" * 100_000)


@pytest.fixture
def port() -> Iterator[int]:
    server = HttpServer("127.0.0.1", 0, Handler)
    server.daemon_threads = False  # so that closing waits for the answers
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


def ask(port: int, path: str) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=10)
    client.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    return client


def test_a_client_that_hangs_up_is_not_in_the_log(port: int, capfd: pytest.CaptureFixture[str]) -> None:
    client = ask(port, "/metrics")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    GONE.set()
    with ask(port, "/broken") as broken:
        assert broken.recv(10) == b""
    seen = capfd.readouterr().err
    assert "on purpose" in seen and "BrokenPipe" not in seen and "ConnectionReset" not in seen
