"""What a teacher answered."""

from __future__ import annotations

import json
from dataclasses import dataclass

from visionr1.data.badrow import is_clean


@dataclass(frozen=True)
class Reply:
    """What a model answered; `reasoning` is its separate chain of thought, empty if the endpoint sends none."""

    text: str
    reasoning: str
    finish_reason: str


class Garbled(Exception):
    """A reply that is not a chat completion."""


def parse_completion(body: str) -> Reply:
    """The first choice of a chat completion. Raises Garbled for anything else, an empty reply included.

    DeepSeek's API and older vLLM call the chain of thought `reasoning_content`, newer vLLM `reasoning`.
    """
    try:
        choice = json.loads(body)["choices"][0]
        message = choice["message"]
        text = message.get("content") or ""
        reasoning = message.get("reasoning_content") or message.get("reasoning") or ""
        reply = Reply(text, reasoning, choice.get("finish_reason") or "")
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise Garbled(f"no chat completion in the reply: {body[:100]!r}") from error
    if not all(isinstance(part, str) for part in (reply.text, reply.reasoning, reply.finish_reason)):
        raise Garbled(f"no text in the reply: {body[:100]!r}")
    if not (is_clean(text) and is_clean(reasoning)):
        raise Garbled("the reply has NUL characters or lone surrogates")
    if not (text.strip() or reasoning.strip()):
        raise Garbled("the reply is empty")
    return reply
