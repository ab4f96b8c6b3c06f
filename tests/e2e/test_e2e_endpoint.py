"""A published set scored through a real OpenAI-compatible server: vLLM's own."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from visionr1.capacity.model import DEMO_BASE
from visionr1.cli import app
from visionr1.data.digits import problems
from visionr1.rundir.benchmark_scores import read_benchmarks
from visionr1.storage import open_store

COUNT = 8
START_SECONDS = 240


@pytest.fixture
def vllm_server(tmp_path: Path) -> Iterator[str]:
    """Address of a server of the demo's model, named `tiny`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        str(DEMO_BASE),
        "--served-model-name",
        "tiny",
    ]
    command += ["--host", "127.0.0.1", "--port", str(port), "--max-model-len", "512", "--dtype", "float32", "--enforce-eager"]
    environment = os.environ | {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_CPU_CI_ENV": "1",
        "TORCHDYNAMO_DISABLE": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }
    log = tmp_path / "server.log"
    with log.open("w") as output:
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not answers(f"http://127.0.0.1:{port}/health"):
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(60)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def test_vllms_server_is_scored_as_any_other_and_not_asked_twice(vllm_server: str, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    lines = []
    for number, row in enumerate(problems("held-out")[:COUNT]):
        (tmp_path / "images" / f"{number}.png").write_bytes(row.images[0])
        question, image = row.problem.replace("<image>", ""), f"images/{number}.png"
        lines.append({"id": str(number), "question": question, "image": image, "options": [], "answer": row.answer})
    file = tmp_path / "test.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = ["eval", "tiny", "--recipe", "demo", "--endpoint", vllm_server, "--benchmark", f"mathvision={file}"]
    done = CliRunner().invoke(app, [*command, "--set", "evaluation.max_completion_tokens=64", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    (score,) = read_benchmarks(open_store(str(tmp_path / "out")))
    assert (score.problems, score.unanswered) == (COUNT, 0)
    assert score.completion_tokens > COUNT
    assert score.prompt_tokens > 40 * COUNT
    again = CliRunner().invoke(app, [*command, "--set", "evaluation.max_completion_tokens=64", "--out", str(tmp_path / "out")])
    assert again.exit_code == 0, again.output
    assert read_benchmarks(open_store(str(tmp_path / "out"))) == [score]
