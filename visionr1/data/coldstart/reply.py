"""What a teacher answered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from visionr1.data.badrow import is_clean

BROKEN_OFF: Final = ("insufficient_system_resource", "abort", "error")
"""Finish reasons of a server that gave up, and may not the next time: DeepSeek's API, vLLM, SGLang."""


@dataclass(frozen=True)
class Reply:
    """What a model answered; `reasoning` is its separate chain of thought, empty if the endpoint sends none.

    The tokens are those that the endpoint counted, 0 if it does not say.
    """

    text: str
    reasoning: str
    finish_reason: str
    prompt_tokens: int = 0
    reply_tokens: int = 0


class Garbled(Exception):
    """A reply that is of no use; the same request may get a better one."""


def parse_completion(body: str) -> Reply:
    """The first choice of a chat completion, sent whole or as server-sent events.

    DeepSeek's API and older vLLM call the chain of thought `reasoning_content`, newer vLLM `reasoning`; Mistral's sends both as
    parts of the content.

    Raises:
        Garbled: it is no chat completion, it is empty although it was not cut, or the server broke it off.
    """
    try:
        whole = _events(body) if body.lstrip().startswith(("data:", "event:", ":")) else json.loads(body)
        choice = whole["choices"][0]
        message = choice["message"]
        text, thinking = _parts(message.get("content"))
        reasoning = message.get("reasoning_content") or message.get("reasoning") or thinking
        reply = Reply(text, reasoning, choice.get("finish_reason") or "", *_usage(whole.get("usage")))
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise Garbled(f"no chat completion in the reply: {body[:100]!r}") from error
    if not all(isinstance(part, str) for part in (reply.text, reply.reasoning, reply.finish_reason)):
        raise Garbled(f"no text in the reply: {body[:100]!r}")
    if reply.finish_reason in BROKEN_OFF:
        raise Garbled(f"the server broke the reply off ({reply.finish_reason})")
    if not (is_clean(reply.text) and is_clean(reply.reasoning)):
        raise Garbled("the reply has NUL characters or lone surrogates")
    if reply.finish_reason in ("stop", "") and not (reply.text.strip() or reply.reasoning.strip()):
        raise Garbled("the reply is empty")
    return reply


def _parts(content: Any) -> tuple[str, str]:
    """Text and thought of a message's content, which may be a list of parts."""
    if not isinstance(content, list):
        return content or "", ""
    text = "".join(part["text"] for part in content if part["type"] == "text")
    thoughts = [part["thinking"] for part in content if part["type"] == "thinking"]
    return text, "".join(thought if isinstance(thought, str) else _parts(thought)[0] for thought in thoughts)


def _usage(usage: Any) -> tuple[int, int]:
    if not isinstance(usage, dict):
        return 0, 0
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
    sent, got = (count if isinstance(count, int) and 0 <= count < 1 << 40 else 0 for count in counts)
    return sent, got


def _events(body: str) -> dict[str, Any]:
    """Server-sent events, which some servers send unasked, put together to the completion that they are pieces of."""
    message: dict[str, str] = {}
    whole: dict[str, Any] = {"choices": [{"message": message}]}
    for line in body.splitlines():
        data = line.removeprefix("data:").strip()
        if not line.startswith("data:") or data == "[DONE]":
            continue
        event = json.loads(data)
        whole["usage"] = event.get("usage") or whole.get("usage")
        for choice in event["choices"][:1]:
            _add(message, choice.get("delta") or choice.get("message") or {})
            whole["choices"][0]["finish_reason"] = choice.get("finish_reason") or whole["choices"][0].get("finish_reason")
    return whole


def _add(message: dict[str, str], delta: Mapping[str, Any]) -> None:
    for name in ("content", "reasoning_content", "reasoning"):
        if delta.get(name):
            message[name] = message.get(name, "") + delta[name]
