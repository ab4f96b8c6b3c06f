"""Addresses to listen at, of both kinds, IPv6 and IPv4."""

from __future__ import annotations

import socket
import sys
from http.server import ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, Final

ALL: Final = "::"
"""Every address of the machine, of both kinds."""


def place(host: str) -> tuple[socket.AddressFamily, str]:
    """Family and address to bind for a host. `::` means IPv4 alone on a machine without IPv6."""
    if host == ALL and not socket.has_dualstack_ipv6():
        return socket.AF_INET, "0.0.0.0"  # noqa: S104 - what the caller asked for
    return (socket.AF_INET6 if ":" in host else socket.AF_INET), host


def free_port(host: str = "127.0.0.1") -> int:
    """A port of an address of this machine that nobody uses now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        listener.bind((host, 0))
        port: int = listener.getsockname()[1]
        return port


class HttpServer(ThreadingHTTPServer):
    """Threads for requests; `::` takes those over IPv4, too."""

    def __init__(self, host: str, port: int, handler: type) -> None:
        self.address_family, bound = place(host)
        super().__init__((bound, port), handler)

    def server_bind(self) -> None:
        """Without HTTPServer's own, which asks the DNS for this machine's name: that can take long in a closed network."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        TCPServer.server_bind(self)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of a client that hung up before it had its answer, as a probe does that has waited long enough."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)
