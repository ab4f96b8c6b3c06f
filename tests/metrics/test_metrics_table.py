"""The table follows Prometheus' rules."""

import re

import pytest

from visionr1.metrics import TABLE, Instrument
from visionr1.metrics.table import LABELS


@pytest.mark.parametrize("item", TABLE, ids=lambda item: item.name)
def test_names_follow_the_rules(item: Instrument) -> None:
    assert re.fullmatch("visionr1_[a-z]+(_[a-z]+)*", item.name)
    assert item.name.endswith("_total") == (item.kind == "counter")
    for unit in ("seconds", "bytes", "ratio"):
        assert (item.unit == unit) == item.name.removesuffix("_total").endswith(f"_{unit}")
    assert item.help.endswith(".") and "|" not in item.help


def test_nothing_is_twice() -> None:
    assert len({item.name for item in TABLE}) == len(TABLE)
    keys = [item.key for item in TABLE if item.key]
    assert len(set(keys)) == len(keys)
    assert not {item.label for item in TABLE} & set(LABELS)
