"""docs/failures-elsewhere.md names the test that guards against each failure; the tests exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROWS = [line for line in (ROOT / "docs/failures-elsewhere.md").read_text().splitlines() if re.match(r"\| \d+ \|", line)]


def test_all_failures_are_listed() -> None:
    assert [int(row.split("|")[1]) for row in ROWS] == list(range(1, 27))


def test_each_failure_has_a_test_that_exists() -> None:
    for row in ROWS:
        guards = re.findall(r"`(tests/\S+\.py)::(test_\w+)`", row)
        assert guards or row.endswith("| CUDA only |"), row[:60]
        for file, test in guards:
            assert re.search(rf"^def {test}\(", (ROOT / file).read_text(), re.MULTILINE), f"{file}::{test}"
