"""One model behind an OpenAI-compatible endpoint."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from openai import APIConnectionError, APIError, APIStatusError, AsyncOpenAI, Timeout

from visionr1.data.coldstart.reply import Garbled, Reply, parse_completion
from visionr1.errors import BadInput
from visionr1.recipe.coldstart import Teacher

REPLY_SECONDS: Final = 3600.0
"""A long chain of thought on a busy server takes many minutes."""
CONNECT_SECONDS: Final = 10.0
LONGEST_WAIT: Final = 60.0


class RequestFailed(Exception):
    """One request got no usable answer, retries included; one line."""


def whole_address(url: str) -> str:
    """The address below which requests are sent: servers have them below /v1, which people leave out."""
    return url if urlsplit(url).path.strip("/") else f"{url.rstrip('/')}/v1"


class Endpoint:
    """Asks one teacher.

    `place` is the part of the recipe that it comes from, for messages. The key is read from the environment variable
    that the recipe names and goes nowhere but into requests. Raises BadInput when that variable is not set.
    """

    def __init__(self, place: str, teacher: Teacher, url: str, retries: int) -> None:
        self._place = place
        self._teacher = teacher
        self._url = whole_address(url)
        self._retries = retries
        self._key = _key(place, teacher)
        self._answered = False
        self._client = AsyncOpenAI(
            base_url=self._url,
            api_key=self._key or "none",
            max_retries=0,
            timeout=Timeout(REPLY_SECONDS, connect=CONNECT_SECONDS),
        )

    async def close(self) -> None:
        """Gives the connections back; the endpoint is not asked after it."""
        await self._client.close()

    async def ask(self, prompt: str, images: Sequence[str]) -> Reply:
        """The reply to `images` (data URLs) and the prompt; a fault that may pass is met by asking again.

        Raises RequestFailed; BadInput if the endpoint refuses or cannot be reached and has never answered.
        """
        attempt = 0
        while True:
            try:
                reply = await self._request(prompt, images)
            except (APIError, Garbled) as error:
                if attempt == self._retries or not may_pass(error):
                    raise self._failure(error) from None
                await asyncio.sleep(backoff(attempt, error))
                attempt += 1
            else:
                self._answered = True
                return reply

    async def _request(self, prompt: str, images: Sequence[str]) -> Reply:
        content: list[Any] = [{"type": "image_url", "image_url": {"url": url}} for url in images]
        content.append({"type": "text", "text": prompt})
        response = await self._client.chat.completions.with_raw_response.create(
            model=self._teacher.model,
            messages=[{"role": "user", "content": content if images else prompt}],
            temperature=self._teacher.temperature,
            max_tokens=self._teacher.max_tokens,
        )
        return parse_completion(response.http_response.text)

    def _failure(self, error: APIError | Garbled) -> RequestFailed | BadInput:
        status = error.status_code if isinstance(error, APIStatusError) else None
        reported = " ".join(str(error.__cause__ or error).split())[:300]
        if self._key:
            reported = reported.replace(self._key, "***")
        what = f"{self._place} {self._url}: {reported}"
        if self._answered:
            return RequestFailed(what)
        if isinstance(error, APIConnectionError):
            return BadInput(f"{self._place}: {self._url} does not answer ({reported}); start the server or correct base_url")
        if status in (401, 403):
            return BadInput(
                f"{self._place}: {self._url} refuses the key (HTTP {status}); set api_key_env to a variable with a valid one"
            )
        if status == 404:
            return BadInput(f"{self._place}: {self._url} does not know the model {self._teacher.model!r} or the path (HTTP 404)")
        return RequestFailed(what)


def _key(place: str, teacher: Teacher) -> str | None:
    if teacher.api_key_env is None:
        return None
    key = os.environ.get(teacher.api_key_env)
    if not key:
        raise BadInput(f"{place}.api_key_env: the environment variable {teacher.api_key_env} is not set; set it to the API key")
    return key


def may_pass(error: APIError | Garbled) -> bool:
    """Whether the same request may succeed later: network, overload, a fault of the server, a garbled reply."""
    if isinstance(error, APIStatusError):
        return error.status_code in (408, 409, 425, 429) or error.status_code >= 500
    return True


def backoff(attempt: int, error: APIError | Garbled) -> float:
    """Seconds to wait: what the server asks for, else doubling from half a second, spread a little so that requests part."""
    asked = error.response.headers.get("retry-after", "") if isinstance(error, APIStatusError) else ""
    if asked.isdecimal():
        return min(LONGEST_WAIT, float(asked))
    return min(LONGEST_WAIT, 0.5 * 2.0**attempt) * random.uniform(0.75, 1.25)
