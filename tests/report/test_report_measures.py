"""Numbers behind the panels."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionr1.recipe import parse_recipe
from visionr1.recipe.schema import Recipe
from visionr1.report.measures import bucket_edges, length_buckets, short, smooth, smoothing_window
from visionr1.report.showcase import pieces, shorten
from visionr1.report.svg import element, ticks
from visionr1.report.words import duration


def recipe_with(*limits: int) -> Recipe:
    stages = "".join(f"  - {{max_completion_tokens: {limit}, group_size: 4}}\n" for limit in limits)
    return parse_recipe(f"stages:\n{stages}", "here")


def test_buckets_of_the_paper() -> None:
    assert bucket_edges(recipe_with(4096, 8192, 16384)) == [4096, 8192]
    assert bucket_edges(recipe_with(16384)) == [4000, 8000]
    labels = [bucket.label for bucket in length_buckets([(1, 1.0)], [4096, 8192])]
    assert labels == ["0–4K", "4K–8K", "8K+"]


def test_share_and_accuracy_of_each_bucket() -> None:
    buckets = length_buckets([(10, 1.0), (95, 0.0), (96, 1.0), (500, 1.0)], [96, 192, 1000])
    assert [(bucket.count, bucket.share, bucket.accuracy) for bucket in buckets] == [
        (2, 0.5, 0.5),
        (1, 0.25, 1.0),
        (1, 0.25, 1.0),
        (0, 0.0, None),
    ]


@given(st.lists(st.tuples(st.integers(0, 20_000), st.sampled_from([0.0, 1.0])), min_size=1))
def test_every_response_is_in_one_bucket(outcomes: list[tuple[int, float]]) -> None:
    buckets = length_buckets(outcomes, [4096, 8192])
    assert sum(bucket.count for bucket in buckets) == len(outcomes)
    assert sum(bucket.share for bucket in buckets) == pytest.approx(1)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.booleans())
def test_ticks_are_few_and_inside(low: float, span: float, whole: bool) -> None:
    found = ticks(low, low + span, 5, whole)
    assert len(found) <= 7
    assert all(low - span * 1e-6 <= tick <= low + span * (1 + 1e-6) for tick in found)
    assert not whole or all(tick == round(tick) for tick in found)


def test_smoothing_keeps_a_line_and_only_averages_long_curves() -> None:
    line = [(step, 2.0) for step in range(100)]
    assert smooth(line, 5) == line
    assert smooth([(1, 0.0), (2, 3.0), (3, 6.0)], 3) == [(1, 1.5), (2, 3.0), (3, 4.5)]
    assert [smoothing_window(points) for points in (0, 39, 100, 300)] == [1, 1, 5, 15]


def test_lengths_and_times_as_people_write_them() -> None:
    assert [short(tokens) for tokens in (48, 4096, 16_000, 4097)] == ["48", "4K", "16K", "4,097"]
    assert [duration(value) for value in (None, 12.4, 200, 18_240)] == ["–", "12 s", "3 min 20 s", "5 h 04 min"]


def test_a_response_is_cut_at_tags_and_words() -> None:
    found = [(piece.kind, piece.text) for piece in pieces("<think>Wait, checked. Let me CHECK.</think><answer>7</answer>")]
    assert found == [
        ("tag", "<think>"),
        ("word", "Wait"),
        ("think", ", checked. Let me "),
        ("word", "CHECK"),
        ("think", "."),
        ("tag", "</think>"),
        ("tag", "<answer>"),
        ("answer", "7"),
        ("tag", "</answer>"),
    ]


@given(st.text(alphabet="ab <>/think", max_size=6000))
def test_shortening_keeps_beginning_and_end(response: str) -> None:
    shown = shorten(pieces(response))
    gaps = [place for place, piece in enumerate(shown) if piece.kind == "gap"]
    if not gaps:
        assert "".join(piece.text for piece in shown) == response
    else:
        head = "".join(piece.text for piece in shown[: gaps[0]])
        tail = "".join(piece.text for piece in shown[gaps[0] + 1 :])
        assert response.startswith(head)
        assert response.endswith(tail)
        assert f"{len(response) - len(head) - len(tail):,} characters" in shown[gaps[0]].text


def test_drawn_text_and_attributes_are_escaped() -> None:
    assert element("text", text="<b>&", x=1.0, class_='a"b') == '<text x="1" class=\'a"b\'>&lt;b&gt;&amp;</text>'
