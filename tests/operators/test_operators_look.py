"""What pods write and serve is not trusted: no answer delays a look, or is written where the API server would refuse it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ptst_operator.look.driver import ask_driver, read_metrics
from ptst_operator.look.scale import StageScale
from site_of_a_run import Site, at_step_2, condition, without_coldstart

STAGE = StageScale(first_step=4, last_step=8, completions=32, workers=8)
OK = b"HTTP/1.0 200 OK\r\n\r\n"


@contextmanager
def driver(answer: Callable[[socket.socket], object]) -> Iterator[tuple[str, int]]:
    """A server that answers one request in its own way."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with listening.accept()[0] as connection:
                connection.recv(65536)
                try:
                    answer(connection)
                except OSError:
                    return  # the one who asked has gone

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()
        thread.join(20)
        assert not thread.is_alive()


def slowly(text: bytes) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        for byte in text:
            connection.sendall(bytes([byte]))
            time.sleep(0.3)

    return answer


def test_a_driver_that_answers_is_heard() -> None:
    with driver(lambda connection: connection.sendall(OK + b"visionr1_step 5\n")) as address:
        seen = ask_driver(address, STAGE)
    assert seen is not None and seen.step == 5


@pytest.mark.parametrize("answer", [slowly(OK), lambda one: (one.sendall(OK), slowly(b"visionr1_step 5\n" * 3)(one))])
def test_a_driver_that_answers_byte_by_byte_does_not_hold_the_look_up(answer: Callable[[socket.socket], object]) -> None:
    begun = time.monotonic()
    with driver(answer) as address:
        assert ask_driver(address, STAGE) is None, "half a line may be another number"
        assert time.monotonic() - begun < 4


def test_a_driver_does_not_choose_whom_the_operator_talks_to() -> None:
    with driver(lambda connection: connection.sendall(OK + b"visionr1_step 5\n")) as other:
        there = f"HTTP/1.0 302 Found\r\nLocation: http://127.0.0.1:{other[1]}/\r\n\r\nvisionr1_step 5\n".encode()
        with driver(lambda connection: connection.sendall(there)) as address:
            assert ask_driver(address, STAGE) is None
        assert ask_driver(other, STAGE) is not None, "nobody has asked it before"


@pytest.mark.parametrize("step", ["1e300", "9", "4", "-1", "+Inf"])
def test_a_step_that_the_stage_does_not_have_is_none(step: str) -> None:
    assert read_metrics(f"visionr1_step {step}\n", STAGE).step is None


def test_two_megabytes_of_strange_metrics_cost_the_operator_nothing() -> None:
    strange = "\n".join(f'strange_{number}{{a="{number}"}} 1' for number in range(60_000))
    ours = "\n".join(f'visionr1_kl_mean{{a="{number}"}} 1' for number in range(30_000))
    begun = time.process_time()
    assert read_metrics(f"visionr1_step 8\n{strange}\n{ours}\nvisionr1_kl_mean{{{'a' * 1_000_000}}} 1\n", STAGE).step == 8
    assert time.process_time() - begun < 0.5


def test_no_number_is_infinite() -> None:
    text = 'visionr1_step 8\nvisionr1_completion_tokens_mean 1e308\nvisionr1_step_seconds{phase="rollout"} 1\n'
    seen = read_metrics(text, STAGE)
    assert (seen.step, seen.tokens_per_second) == (8, None)
    assert replace(STAGE, completions=1).speed(8.0, 2.0) == 0.5


@pytest.mark.parametrize("value", ["1e308", "-1e308", "1e101", "3.2e7", "-5", "NaN", "+Inf"])
def test_absurd_numbers_of_a_driver_or_of_the_step_log_do_not_reach_the_status(value: str, tmp_path: Path) -> None:
    text = f"visionr1_step 8\nvisionr1_reward_mean 0.5\nvisionr1_completion_tokens_mean 4\nvisionr1_kl_mean 1e{'1' * 9}\n"
    parts = "".join(f'visionr1_step_seconds{{phase="{part}"}} {value}\n' for part in ("rollout", "update"))
    seen = read_metrics(text + parts, STAGE)
    assert (seen.step, seen.reward, seen.length, seen.kl) == (8, 0.5, 4.0, None)
    assert seen.step_seconds is None and seen.tokens_per_second is None
    site = at_step_2(tmp_path)
    spoilt = {"NaN": "NaN", "+Inf": "Infinity"}.get(value, value)
    record = (
        f'{{"phase": "stage-1", "step": 2, "reward_mean": 0.5, "kl_mean": {spoilt}, "step_seconds": {{"rollout": {spoilt}}}}}'
    )
    site.store.write_bytes("steps.jsonl", f"{record}\n".encode())
    status = site.look()
    json.dumps(site.cluster.run["status"], allow_nan=False)
    assert status.hours_left is None or 0 <= status.hours_left < 1000


HOSTILE = ["[" * 100_000, '{"phase": "stage-1", "step": Infinity}', '{"phase": "stage-1", "step": 1e999}']


def gated_site(folder: Path, log: bytes) -> Site:
    """A run with a second stage that is due, after a gate that looks at steps.jsonl."""
    gate: dict[str, Any] = {"metric": "reward_mean", "min": 0.0}
    site = Site(folder, **without_coldstart(), gates=[gate])
    site.store.write_bytes("steps.jsonl", log)
    site.commit("sft", 3, final=True)
    site.commit("stage-1", 4, final=True)
    return site


@pytest.mark.parametrize("line", HOSTILE)
def test_a_hostile_step_log_is_said_and_stops_no_look(line: str, tmp_path: Path) -> None:
    reported = condition(gated_site(tmp_path, f"{line}\n{line}\n".encode()).look(), "RecipeValid")
    assert "steps.jsonl: line 1 is not a step record; correct or delete that line" in reported.message


def test_a_step_log_that_is_no_run_s_is_not_read_into_memory(tmp_path: Path) -> None:
    site = gated_site(tmp_path, json.dumps({"phase": "stage-1", "step": 1, "junk": "x" * (17 << 20)}).encode())
    assert "steps.jsonl: larger than 16 MiB" in condition(site.look(), "RecipeValid").message


@pytest.mark.parametrize(
    ("text", "message"),
    [("[" * 100_000, "not a score file"), ('{"step": Infinity, "junk": "' + "x" * (2 << 20) + '"}', "larger than 1 MiB")],
)
def test_a_hostile_score_is_reported_and_stops_no_look(text: str, message: str, tmp_path: Path) -> None:
    site = gated_site(tmp_path, b'{"phase": "stage-1", "step": 4, "reward_mean": 1.0}\n')
    site.commit("stage-2", 8, final=True)
    site.store.write_bytes("eval/stage-2.json", text.encode())
    assert f"eval/stage-2.json: {message}" in condition(site.look(), "RecipeValid").message


def test_a_checkpoint_of_a_step_that_no_run_has_is_none(tmp_path: Path) -> None:
    site = Site(tmp_path, **without_coldstart())
    site.commit("sft", 3, final=True)
    manifest = site.store.read_bytes("checkpoints/sft/step-3/manifest.json")
    site.store.write_bytes(f"checkpoints/sft/step-{'9' * 40}/manifest.json", manifest)
    assert site.look().of("sft").committed_step == 3
