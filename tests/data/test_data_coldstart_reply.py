"""Replies in the shapes that servers send: one JSON document or events, the thought in one of several places."""

from __future__ import annotations

import json

import pytest

from visionr1.data.coldstart.reply import Garbled, Reply, parse_completion


def event(**delta: str) -> str:
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': delta}]})}\n\n"


@pytest.mark.parametrize(
    ("body", "reply"),
    [
        (
            event(reasoning_content="a") + event(reasoning_content="b") + event(content="c") + event(content="d")
            + 'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'
            + 'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}\n\ndata: [DONE]\n\n',
            Reply("cd", "ab", "stop", 3, 4),
        ),
        (": busy\n\n" + event(content="half"), Reply("half", "", "")),
        (
            json.dumps(
                {"choices": [{"finish_reason": "stop", "message": {"content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "t"}]}, {"type": "text", "text": "x"}]}}]}
            ),
            Reply("x", "t", "stop"),
        ),
        ('{"choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}]}', Reply("", "", "content_filter")),
        (
            '{"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": "many"}}',
            Reply("x", "", "stop"),
        ),
    ],
)  # fmt: skip
def test_replies_in_other_shapes(body: str, reply: Reply) -> None:
    assert parse_completion(body) == reply


@pytest.mark.parametrize("body", ["data: {\n\n", "data: [DONE]\n\n", "event: x\n\n", 'data: {"choices": 3}\n\n'])
def test_events_that_are_no_completion(body: str) -> None:
    with pytest.raises(Garbled):
        parse_completion(body)
