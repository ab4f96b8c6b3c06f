"""Stands in for vLLM: its health check and key, the answers of `fake_teacher`; `serving_stub.py COUNTS --host= --port=`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "data"))

from fake_teacher import helpful

parser = argparse.ArgumentParser()
parser.add_argument("counts", type=Path)
parser.add_argument("--host")
parser.add_argument("--port", type=int)
args = parser.parse_args()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._send(200 if self.path == "/health" else 404, {})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Authorization"] != f"Bearer {os.environ['KEY']}":
            self._send(401, {})
            return
        (args.counts / f"{os.getpid()}.pid").touch()
        time.sleep(0.05)
        status, text = helpful(request)
        message = {"role": "assistant", "content": text}
        self._send(status, {"choices": [{"message": message, "finish_reason": "stop"}]})

    def _send(self, status: int, answer: object) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


ThreadingHTTPServer((args.host, args.port), Handler).serve_forever()
