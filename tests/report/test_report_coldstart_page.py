"""The page about cold-start data: what it shows, and that nothing in the data becomes markup."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from visionr1.data.coldstart.choose import Dropped, Outcome
from visionr1.data.coldstart.filters import Kept, Rejection
from visionr1.data.coldstart.output import write_samples
from visionr1.data.rows import Row
from visionr1.errors import BadInput
from visionr1.report.coldstart_page import histogram, write_page
from visionr1.rundir.coldstart import ColdStartReport, Example, commit, write_report
from visionr1.storage import Store, open_store

EVIL = "<script>alert(1)</script>"


def written(folder: Path, samples: int = 30) -> Store:
    store = open_store(str(folder))
    buffer = io.BytesIO()
    Image.new("RGB", (1000, 500), "red").save(buffer, "PNG")
    rows = [Row(f"r.jsonl#{place}", f"<image>What is {place}? {EVIL}", (buffer.getvalue(),), "8") for place in range(samples)]
    dropped = (Dropped(1, Rejection("wrong answer", f"{EVIL} 7"), f"So 7. {EVIL}"),)
    outcomes = [
        Outcome(place, row.id, 1, "8", Kept(f"Wait, let me check. {'word ' * place}", "8", True), dropped, 0.5)
        for place, row in enumerate(rows)
    ]
    assert len([*write_samples(store, rows, outcomes, several_images=False)]) == samples
    examples = {"refused": Example(id="r.jsonl#99", excerpt=EVIL)}
    words = {"Wait": samples, "Check": samples}
    write_report(
        store,
        ColdStartReport(
            problems=samples + 2,
            kept=samples,
            rejected={"refused": 2},
            examples=examples,
            reflection_words=words,
            mean_words=20.0,
            asked=3,
            reused=0,
        ),
    )
    commit(store, samples)
    return store


def test_samples_filters_and_lengths_are_shown_and_nothing_becomes_markup(tmp_path: Path) -> None:
    store = written(tmp_path / "run")
    page = store.read_bytes(write_page(store)).decode()
    assert page.count('<article class="problem">') == 24 and page.count("data:image/png;base64,") == 24
    assert "30" in page and "refused" in page and '<span class="word">Wait</span>' in page
    assert "wrong answer</summary>" in page and "So 7." in page
    assert EVIL not in page and "&lt;script&gt;" in page
    assert "http://" not in page.replace("http-equiv", "") and "https://" not in page


def test_without_data_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has no coldstart/report.json: run `visionr1 coldstart` first"):
        write_page(open_store(str(tmp_path / "run")))


def test_a_damaged_file_of_dropped_chains_is_named(tmp_path: Path) -> None:
    store = written(tmp_path / "run", 3)
    store.write_bytes("coldstart/rejected.jsonl", json.dumps({"id": 3}).encode())
    with pytest.raises(BadInput, match="rejected.jsonl has a line that is no dropped chain"):
        write_page(store)


def test_a_distribution_has_bins_of_one_width() -> None:
    bars = histogram([10, 10, 11, 25, 40])
    assert sum(bar.number for bar in bars) == 5 and bars[0].name == "10 to 11" and bars[0].share == 1.0
    assert [bar.number for bar in histogram([7])] == [1] and histogram([]) == []
