"""The pictures of the dashboards can be drawn from a Prometheus."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from documents import CHART, ROOT
from PIL import Image


class Answers(BaseHTTPRequestHandler):
    """One rising series for every expression."""

    def do_GET(self) -> None:
        series = {"metric": {"run": "mine", "stage": "1", "le": "64"}, "values": [[at, str(at)] for at in range(100, 200)]}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"data": {"result": [series]}}).encode())


@pytest.fixture
def prometheus() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_each_dashboard_is_drawn(prometheus: str, tmp_path: Path) -> None:
    program = [sys.executable, str(ROOT / "docs/dashboards/draw.py"), prometheus, "100", "200", "--out", str(tmp_path)]
    subprocess.run(program, check=True, capture_output=True)
    drawn = {path.stem: Image.open(path).size for path in tmp_path.iterdir()}
    assert set(drawn) == {path.stem for path in (CHART / "dashboards").glob("*.json")}
    assert all(width > 500 and height > 300 for width, height in drawn.values())
