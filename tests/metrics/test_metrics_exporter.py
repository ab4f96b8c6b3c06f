"""What Prometheus and a probe see over real HTTP."""

import itertools
import json
import math
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from visionr1.errors import BadInput
from visionr1.metrics import Exporter
from visionr1.metrics.exporter import buckets
from visionr1.recipe.schema import Metrics

GRPO = {"phase": "stage-2", "stage": 2, "step": 101, "time": 1.7e9, "generated_tokens": 4000, "loss": 0.25}

Serve = Callable[..., Exporter]


@pytest.fixture
def serve() -> Iterator[Serve]:
    started = []

    def start(settings: Metrics | None = None, role: str = "driver", **arguments: Any) -> Exporter:
        exporter = Exporter(settings or Metrics(port=0), role, "demo", **arguments)
        started.append(exporter)
        return exporter

    yield start
    for exporter in started:
        exporter.close()


def get(exporter: Exporter, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{exporter.port}{path}", headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def samples(exporter: Exporter) -> dict[tuple[str, ...], tuple[float, str, str]]:
    """Value by (name, labels other than run, stage and role); checks those three."""
    status, text = get(exporter, "/metrics")
    assert status == 200
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.endswith("_created"):
                continue
            labels = dict(sample.labels)
            place = (labels.pop("run"), labels.pop("stage"), labels.pop("role"))
            assert place[0] == "demo"
            found[(sample.name, *labels.values())] = (sample.value, *place[1:])
    return found


def test_a_step_record_is_seen_with_its_labels(serve: Serve) -> None:
    exporter = serve()
    exporter.update({**GRPO, "step_seconds": {"rollout": 3.5, "update": 1.0}, "reward_component_mean": {"format": 0.5}})
    seen = samples(exporter)
    assert seen["visionr1_step",] == (101, "2", "driver")
    assert seen["visionr1_loss",][0] == 0.25
    assert seen["visionr1_step_seconds", "rollout"][0] == 3.5
    assert seen["visionr1_step_seconds", "update"][0] == 1.0
    assert seen["visionr1_reward_component_mean", "format"][0] == 0.5
    assert seen["visionr1_last_step_timestamp_seconds",][0] == 1.7e9


def test_a_part_that_a_step_did_not_have_took_no_time(serve: Serve) -> None:
    exporter = serve()
    exporter.update({**GRPO, "step": 2, "step_seconds": {"update": 1.0, "checkpoint": 9.0}})
    exporter.update({**GRPO, "step": 3, "step_seconds": {"update": 1.5}})
    parts = {labels[0]: value for (name, *labels), (value, *_) in samples(exporter).items() if name == "visionr1_step_seconds"}
    assert parts == {"update": 1.5, "checkpoint": 0.0}


def test_counters_add_up_what_the_steps_did(serve: Serve) -> None:
    exporter = serve()
    for step in (101, 102, 103):
        exporter.update({**GRPO, "step": step, "trained_tokens": 10, "grading_timeouts": 1})
    seen = samples(exporter)
    assert seen["visionr1_steps_total",][0] == 3
    assert seen["visionr1_rollout_generated_tokens_total",][0] == 12_000
    assert seen["visionr1_trained_tokens_total",][0] == 30
    assert seen["visionr1_grading_timeouts_total",][0] == 3
    assert seen["visionr1_step",][0] == 103


def test_outside_grpo_the_stage_is_the_phase(serve: Serve) -> None:
    exporter = serve(role="sft")
    exporter.update(
        {
            "phase": "sft",
            "stage": None,
            "step": 1,
            "time": 1.7e9,
            "loss": math.nan,
            "grad_norm": None,
            "step_seconds": {"update": None},
        }
    )
    seen = samples(exporter)
    assert seen["visionr1_steps_total",] == (1, "sft", "sft")
    assert math.isnan(seen["visionr1_loss",][0])
    assert not {name for name, *_ in seen} & {"visionr1_grad_norm", "visionr1_step_seconds"}


def test_lengths_have_bounds_up_to_the_stages_limit(serve: Serve) -> None:
    exporter = serve(max_completion_tokens=100)
    exporter.update(GRPO)
    exporter.observe("completion_tokens", [10, 40, 100, 100])
    seen = samples(exporter)
    counts = {key[1]: value[0] for key, value in seen.items() if key[0] == "visionr1_completion_tokens_bucket"}
    assert counts == {"16.0": 1, "32.0": 1, "64.0": 2, "100.0": 4, "+Inf": 4}
    assert seen["visionr1_completion_tokens_sum",] == (250, "2", "driver")


@pytest.mark.parametrize("limit", [1, 16, 17, 4096, 16_384])
def test_the_last_bound_is_the_limit_and_bounds_rise(limit: int) -> None:
    bounds = buckets(limit)
    assert bounds[-1] == limit
    assert bounds == sorted(set(bounds))


def test_a_checkpoints_age_is_told_at_the_time_of_the_scrape(serve: Serve) -> None:
    exporter = serve()
    exporter.update({**GRPO, "time": time.time()})
    assert 0 <= samples(exporter)["visionr1_checkpoint_age_seconds",][0] < 5
    exporter.committed(12, 100.0)
    seen = samples(exporter)
    assert 100 <= seen["visionr1_checkpoint_age_seconds",][0] < 105, "its upload took so long: the steps since are not safe"
    assert (seen["visionr1_checkpoint_step",][0], seen["visionr1_checkpoint_upload_seconds",][0]) == (12, 100)
    exporter.update({**GRPO, "time": time.time(), "step_seconds": {"checkpoint": 2.0}})
    assert 100 <= samples(exporter)["visionr1_checkpoint_age_seconds",][0] < 105, "written, but not committed"


def test_a_worker_tells_its_own_numbers_only(serve: Serve) -> None:
    worker = serve(role="worker")
    worker.update({"phase": "stage-2", "stage": 2, "host_memory_bytes": 1e9})
    assert samples(worker) == {("visionr1_host_memory_bytes",): (1e9, "2", "worker")}


def test_exporters_do_not_mix(serve: Serve) -> None:
    one, other = serve(), serve()
    one.update(GRPO)
    assert samples(other) == {}


def test_prometheus_gets_the_format_that_it_asks_for(serve: Serve) -> None:
    exporter = serve()
    exporter.update(GRPO)
    status, text = get(exporter, "/metrics", {"Accept": "application/openmetrics-text; version=1.0.0"})
    assert status == 200 and text.endswith("# EOF\n")


def test_health_is_the_time_since_the_last_beat(serve: Serve) -> None:
    exporter = serve(silence_limit=60.0)
    assert get(exporter, "/healthz")[0] == 200
    exporter._beat -= 61
    status, text = get(exporter, "/healthz")
    assert status == 503 and json.loads(text)["age_seconds"] >= 61
    exporter.beat()
    status, text = get(exporter, "/healthz")
    assert status == 200 and json.loads(text)["age_seconds"] < 60


def test_other_paths_say_what_there_is(serve: Serve) -> None:
    assert get(serve(), "/") == (404, "try /metrics or /healthz\n")


def test_a_worker_listens_beside_the_driver(serve: Serve) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        free = unused.getsockname()[1]
    worker = serve(Metrics(port=free - 3), role="worker", port_offset=3)
    assert worker.port == free


@pytest.mark.parametrize("offset", [0, 70_000])
def test_a_taken_port_is_no_reason_to_end_a_training(offset: int, serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    taken = serve().port
    assert taken is not None
    other = serve(Metrics(port=taken), port_offset=offset)
    assert other.port not in (None, taken)
    said = f"metrics: port {taken + offset} on 127.0.0.1 is taken, so driver serves its metrics on port {other.port}\n"
    assert capsys.readouterr().out == said
    assert get(other, "/healthz")[0] == 200


@pytest.mark.parametrize("host", ["203.0.113.1", "no such host"])
def test_an_address_of_another_machine_is_one_line(serve: Serve, host: str) -> None:
    with pytest.raises(BadInput, match=rf"^metrics: cannot listen on {host}, port 0 \(.+\); correct metrics\.host"):
        serve(Metrics(host=host, port=0))


def test_all_addresses_are_those_of_ipv6_and_ipv4(serve: Serve) -> None:
    port = serve(Metrics(host="::", port=0)).port
    for host in ("[::1]", "127.0.0.1"):
        with urllib.request.urlopen(f"http://{host}:{port}/healthz", timeout=5) as answer:
            assert answer.status == 200, host


def test_a_machine_without_ipv6_serves_on_all_of_ipv4(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    assert get(serve(Metrics(host="::", port=0)), "/healthz")[0] == 200


def test_a_closed_exporter_frees_its_port(serve: Serve) -> None:
    exporter = serve()
    port = exporter.port
    exporter.close()
    assert serve(Metrics(port=port)).port == port


def test_switched_off_it_listens_nowhere_and_all_calls_still_work(serve: Serve) -> None:
    exporter = serve(Metrics(enabled=False))
    exporter.update(GRPO)
    exporter.observe("completion_tokens", [1])
    exporter.beat()
    assert exporter.port is None


def test_an_engines_own_numbers_are_read_at_every_scrape(serve: Serve) -> None:
    worker = serve(role="worker")
    worker.update({"phase": "stage-1", "stage": 1})
    running, preempted = iter([3, 5, 0]), iter([0, 2, 7])
    worker.read_at_scrape(
        lambda: {
            "vllm_running_requests": next(running),
            "vllm_preemptions": next(preempted),
            "vllm_sleep_state": {"awake": 1, "discard_all": 0},
        }
    )
    scrapes = [samples(worker) for _ in range(3)]
    assert [seen["visionr1_vllm_running_requests",][0] for seen in scrapes] == [3, 5, 0]
    assert [seen["visionr1_vllm_preemptions_total",][0] for seen in scrapes] == [0, 2, 7]
    assert scrapes[2]["visionr1_vllm_sleep_state", "awake"] == (1, "1", "worker")


def test_a_scrape_sees_a_step_whole(serve: Serve) -> None:
    exporter = serve()
    done = threading.Event()

    def steps() -> None:
        for step in itertools.count():
            if done.is_set():
                return
            exporter.update({**GRPO, "step": step, "loss": step, "time": step, "kl_mean": step})

    trainer = threading.Thread(target=steps)
    trainer.start()
    try:
        for _ in range(30):
            seen = samples(exporter)
            names = ("visionr1_step", "visionr1_loss", "visionr1_last_step_timestamp_seconds", "visionr1_kl_mean")
            assert len({seen[name,][0] for name in names if (name,) in seen}) <= 1
    finally:
        done.set()
        trainer.join()


def test_a_scraper_that_hangs_up_leaves_no_traceback_in_the_log(serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    exporter = serve()
    hung_up = threading.Event()

    def slow() -> dict[str, Any]:
        assert hung_up.wait(10)
        time.sleep(0.1)
        return {}

    exporter.read_at_scrape(slow)
    scraper = socket.create_connection(("127.0.0.1", exporter.port))
    scraper.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    scraper.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
    time.sleep(0.2)
    scraper.close()
    hung_up.set()
    assert get(exporter, "/metrics")[0] == 200  # after the other, because scrapes take turns
    time.sleep(0.2)
    assert "Traceback" not in capfd.readouterr().err
