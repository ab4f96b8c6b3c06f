"""When a request may be sent again, and how much per minute."""

from __future__ import annotations

import pytest

from visionr1.data.coldstart.limits import Budget, asked_wait


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7.5"}, 7.5),
        ({"retry-after": "120"}, 120),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": "Sat, 28 Nov 2026 12:00:30 GMT", "date": "Sat, 28 Nov 2026 12:00:00 GMT"}, 30),
        ({"retry-after": "Sat, 28 Nov 2026 12:00:30 GMT", "date": "Sat, 28 Nov 2026 12:00:31 GMT"}, 0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "tomorrow"}, None),
        ({}, None),
    ],
)
def test_every_form_of_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert asked_wait(headers) == seconds


def test_a_budget_refills_and_pays_its_debts() -> None:
    budget = Budget(60, now=0)
    assert budget.wait(0) == 0
    budget.take(12)
    assert budget.wait(0) == pytest.approx(2, abs=0.01)
    assert budget.wait(2.1) == 0
    budget.take(-5)
    assert Budget(None, now=0).wait(0) == 0
