"""A stand-in for the teachers' servers: real HTTP, scripted replies, every request kept."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from local_server import served

Answer = tuple[int, Any]
"""HTTP status and a reply's text, a whole body (dict), or bytes that are no JSON."""


def step_of(request: dict[str, Any]) -> str:
    content = request["messages"][0]["content"]
    if isinstance(content, str):
        return "reasoning"
    return "description" if "thinking process" in content[-1]["text"] else "pseudo_cot"


def text_of(request: dict[str, Any]) -> str:
    content = request["messages"][0]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


def helpful(request: dict[str, Any]) -> Answer:
    """Answers each step well; the questions are `What is a+b?`."""
    left, right = map(int, re.findall(r"What is (\d+)\+(\d+)\?", text_of(request))[0])
    if step_of(request) == "pseudo_cot":
        return 200, f"Caption:\nTwo numbers, {left} and {right}.\nReasoning:\nAdd them."
    if step_of(request) == "description":
        return 200, f"The image shows the numbers {left} and {right}."
    thought = f"The description says {left} and {right}. Wait, let me check. {left}+{right}={left + right}."
    return 200, f"<think>\n{thought}\n</think>\n\nFinal Answer: {left + right}"


@dataclass
class FakeTeacher:
    """Set `answer` to script it; `requests` are all that came, `most_at_once` how many were open together."""

    url: str
    answer: Callable[[dict[str, Any]], Answer] = helpful
    delay: float = 0.0
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    most_at_once: int = 0
    _open: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def steps(self) -> list[str]:
        return [step_of(request) for request in self.requests]

    def respond(self, request: dict[str, Any], headers: dict[str, str]) -> Answer:
        with self._lock:
            self.requests.append(request)
            self.headers.append(headers)
            self._open += 1
            self.most_at_once = max(self.most_at_once, self._open)
        time.sleep(self.delay)
        try:
            return self.answer(request)
        finally:
            with self._lock:
                self._open -= 1


def write_problems(folder: Path, png: bytes, count: int) -> Path:
    folder.mkdir()
    (folder / "a.png").write_bytes(png)
    rows = [{"image": "a.png", "problem": f"<image>What is {n}+5?", "answer": str(n + 5)} for n in range(count)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "rows.jsonl"


@contextmanager
def fake_teacher() -> Iterator[FakeTeacher]:
    teacher = FakeTeacher("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, reply = teacher.respond(request, {name.lower(): value for name, value in self.headers.items()})
            if isinstance(reply, str):
                message = {"role": "assistant", "content": reply}
                reply = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
            body = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            if status == 429:
                self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with served(Handler) as address:
        teacher.url = f"{address}/v1"
        yield teacher
