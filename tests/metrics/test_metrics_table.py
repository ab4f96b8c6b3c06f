"""The table follows Prometheus' rules, and the reference page is made from it."""

import re
from pathlib import Path

import pytest

from visionr1.metrics import RECORD_KEYS, TABLE
from visionr1.metrics.reference import reference_page
from visionr1.metrics.table import LABELS

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


@pytest.mark.parametrize("item", TABLE, ids=lambda item: item.name)
def test_names_follow_the_rules(item):
    assert re.fullmatch("visionr1_[a-z]+(_[a-z]+)*", item.name)
    assert item.name.endswith("_total") == (item.kind == "counter")
    for unit in ("seconds", "bytes", "ratio"):
        assert (item.unit == unit) == item.name.endswith(f"_{unit}")
    assert item.help.endswith(".") and "|" not in item.help


def test_nothing_is_twice():
    assert len({item.name for item in TABLE}) == len(TABLE)
    keys = [item.key for item in TABLE if item.key]
    assert len(set(keys)) == len(keys)
    assert not {item.label for item in TABLE} & set(LABELS)


def test_the_reference_page_is_up_to_date():
    assert PAGE.read_text() == reference_page(), "run: python -m visionr1.metrics.reference docs/metrics.md"


def test_the_reference_page_names_every_instrument_and_record_key():
    page = reference_page()
    assert all(f"| `{item.name}` |" in page for item in TABLE)
    assert all(f"`{key}`" in page for key in RECORD_KEYS)
