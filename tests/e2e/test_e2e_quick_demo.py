"""The quick demo as a newcomer meets it: every phase, the figures, and the report in a real browser."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(1200)

ROOT = Path(__file__).parents[2]
GRPO_PHASES = ["stage-1", "stage-2", "stage-3"]
CHROMIUM = [
    *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--enable-logging=stderr", "--virtual-time-budget=5000"),
]


@pytest.fixture(scope="module")
def demo_run() -> Path:
    """The run directory of `make demo QUICK=1`; the same command makes it, or goes on with it, where it is not done."""
    done = subprocess.run([sys.executable, "-m", "visionr1.cli", "demo", "--quick"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return ROOT / "runs" / "demo-quick"


def test_every_phase_is_done_and_measured(demo_run: Path) -> None:
    phases = json.loads((demo_run / "summary.json").read_text())["phases"]
    assert list(phases) == ["coldstart", "sft", *GRPO_PHASES, "evaluate"]
    for name, phase in phases.items():
        assert phase["state"] == "done", name
        assert phase["seconds"] > 0, name
        assert phase["peak_bytes"] < 8 * 2**30, name
    for name in ["sft", *GRPO_PHASES]:
        assert 0 <= phases[name]["accuracy"] <= 1
        assert phases[name]["completion_tokens_mean"] > 0
        assert 0 <= phases[name]["truncated_ratio"] <= 1


def test_one_global_step_runs_over_the_stages(demo_run: Path) -> None:
    records = [json.loads(line) for line in (demo_run / "steps.jsonl").read_text().splitlines()]
    grpo = [(record["stage"], record["step"]) for record in records if record["stage"] is not None]
    assert [step for _, step in grpo] == list(range(1, len(grpo) + 1))
    assert [stage for stage, _ in grpo] == sorted(stage for stage, _ in grpo)
    assert {stage for stage, _ in grpo} == {1, 2, 3}
    assert all(record["logprob_mismatch"] < 1e-5 for record in records if record["stage"] is not None)


def test_every_rollout_is_kept(demo_run: Path) -> None:
    import zstandard

    data = (demo_run / "rollouts" / "stage-1" / "step-1.jsonl.zst").read_bytes()
    lines = [json.loads(line) for line in zstandard.decompress(data).decode().splitlines()]
    assert len(lines) == 8 * 16
    assert {"prompt_id", "token_ids", "finish_reason", "reward", "format", "accuracy"} <= set(lines[0])


class Loads(HTMLParser):
    """Collects the figures and everything that a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.figures: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        if tag == "figure":
            self.figures.append(values.get("id") or "")
        if tag in ("script", "link", "img", "iframe", "source"):
            self.fetched += [value for name, value in attributes if name in ("src", "href") and value]


def test_the_report_opens_in_a_browser(demo_run: Path, tmp_path: Path) -> None:
    address = (demo_run / "report.html").as_uri()
    shown = subprocess.run(
        [*CHROMIUM, f"--user-data-dir={tmp_path}", "--dump-dom", address], capture_output=True, text=True, timeout=120
    )
    page = Loads()
    page.feed(shown.stdout)
    assert [figure for figure in page.figures if figure.startswith("panel-")] == [f"panel-{letter}" for letter in "ABCDEF"]
    assert all(fetched.startswith("data:") for fetched in page.fetched)
    assert not re.findall(r"CONSOLE.*", shown.stderr)
