"""A real Prometheus watches a real run: every panel has data, and the numbers are those of steps.jsonl."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from generators.alerts import load_alerts
from generators.board import load_dashboards
from generators.grafana import STAGE_BORDERS
from prometheus_server import Prometheus, filled
from scraped import TINY, scraped_run

pytestmark = pytest.mark.timeout(1200)

ELSEWHERE = re.compile(r"visionr1_ptst_|DCGM_|kube_")
"""A run on one machine has no operator, no dcgm-exporter and no kube-state-metrics."""
PLAIN = [alert for alert in load_alerts() if "@namespace@" not in alert.expr]
LAST_MOMENT = re.compile("visionr1_coldstart_(kept|dropped)")
"""Told before the samples are written, which takes less than a scrape for so few, then the process ends."""

Watched = tuple[Prometheus, float, float, list[dict[str, Any]]]
"""The server, when the run began and ended, and the run's records."""


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    for server, begun, ended in scraped_run(folder / "prometheus", folder / "run", TINY):
        yield server, begun, ended, [json.loads(line) for line in (folder / "run" / "steps.jsonl").read_text().splitlines()]


def test_every_panel_has_data_where_a_run_makes_any(watched: Watched) -> None:
    server, begun, ended, _ = watched
    shown = [query.expr for board in load_dashboards() for panel in board.panels for query in panel.queries]
    empty = [expr for expr in shown if not server.has_data(expr, begun, ended)]
    empty = [expr for expr in empty if not LAST_MOMENT.search(expr)]
    assert [expr for expr in empty if not ELSEWHERE.search(expr)] == []
    assert empty == [expr for expr in shown if ELSEWHERE.search(expr)], "docs/monitoring.md lists them"


def test_stage_borders_are_when_the_phases_began(watched: Watched) -> None:
    server, begun, ended, _ = watched
    borders = server.query_range(filled(STAGE_BORDERS), begun, ended)
    first = {series["metric"]["stage"]: float(series["values"][0][1]) / 1000 for series in borders}
    assert sorted(first, key=lambda stage: first[stage]) == ["coldstart", "sft", "1"]
    assert all(begun < at < ended for at in first.values())


def test_prometheus_evaluates_every_alert_and_what_it_asks_for_is_there(watched: Watched) -> None:
    server, begun, ended, _ = watched
    (group,) = server.get("rules")["groups"]
    assert [(rule["name"], rule["health"]) for rule in group["rules"]] == [(alert.name, "ok") for alert in PLAIN]
    for alert in PLAIN:
        for selector in re.findall(r"visionr1_\w+(?:{[^}]*})?", alert.expr):
            found = server.query_range(selector, begun, ended)
            assert bool(found) != bool(ELSEWHERE.search(selector)), selector


@pytest.mark.parametrize(("phase", "role", "enough"), [("stage-1", "driver", 5), ("sft", "sft", 2)])
def test_the_scraped_numbers_are_those_of_the_step_log(watched: Watched, phase: str, role: str, enough: int) -> None:
    server, _, ended, log = watched
    records = {record["step"]: record for record in log if record["phase"] == phase}
    seen = server.steps_told(f'role="{role}",pod="head"', records, ended)
    # SFT ends with its last step, which a scrape twice a second may miss; a driver still has to end its workers.
    assert len(seen) >= enough and max(seen) >= max(records) - (role == "sft")


def test_the_counters_of_the_pods_add_up_to_the_step_log(watched: Watched) -> None:
    server, _, ended, log = watched
    stage = [record for record in log if record["phase"] == "stage-1"]
    for name, key in (("rollout_generated_tokens", "generated_tokens"), ("trained_tokens", "trained_tokens")):
        tokens = [record[key] for record in stage]
        assert server.total(f'visionr1_{name}_total{{role="driver"}}', ended) == sum(tokens)
        # A worker ends soon after its last step, which a scrape twice a second may miss.
        assert sum(tokens[:-1]) <= server.total(f'visionr1_{name}_total{{role="worker"}}', ended) <= sum(tokens)
    trained = [record["trained_tokens"] for record in log if record["phase"] == "sft"]
    assert sum(trained[:-2]) <= server.total('visionr1_trained_tokens_total{role="sft"}', ended) <= sum(trained)
    assert server.total('visionr1_steps_total{role="driver"}', ended) == len(stage)
    assert server.total('visionr1_completion_tokens_count{role="driver"}', ended) == 16 * len(stage)


def test_each_pod_tells_its_own(watched: Watched) -> None:
    server, _, ended, _ = watched
    pods = {
        (series["metric"]["role"], series["metric"]["pod"]) for series in server.query("visionr1_host_memory_bytes[1h]", ended)
    }
    assert pods == {
        ("coldstart", "head"),
        ("sft", "head"),
        ("sft", "worker-0"),
        ("driver", "head"),
        ("worker", "worker-0"),
        ("worker", "worker-1"),
    }


def test_the_engine_was_seen_at_work(watched: Watched) -> None:
    server, begun, ended, _ = watched
    found = server.query_range("max(max_over_time(visionr1_vllm_running_requests[1s]))", begun, ended, 0.5)
    assert max(float(value) for series in found for _, value in series["values"]) > 0
    ratios = server.query_range('visionr1_mfu_ratio{phase="update"}', begun, ended)
    assert all(0 < float(value) < 1 for series in ratios for _, value in series["values"])
