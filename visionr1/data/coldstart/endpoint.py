"""One OpenAI-compatible endpoint: a request over HTTP, and whether the endpoint takes another one now."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import httpx2

from visionr1.data.badrow import one_line
from visionr1.data.coldstart.faults import Busy, Failed, Fault, Refused, fault_of
from visionr1.data.coldstart.limits import Budget, backoff
from visionr1.data.coldstart.reply import Garbled, Reply, parse_completion
from visionr1.errors import BadInput
from visionr1.recipe.coldstart import Endpoint, Requests

T = TypeVar("T")
CONNECT_SECONDS: Final = 10.0
LONGEST_REPLY: Final = 64 << 20
"""Bytes; a server that sends more is broken or hostile."""
LONGEST_ERROR: Final = 64 << 10
FAULTS_TO_PAUSE: Final = 5
"""So many faults in a row, and the endpoint is given a pause; then one request at a time tries whether it is back."""
REFUSALS_TO_END: Final = 5
"""An endpoint that has answered, and then refuses so many requests in a row, is not asked again."""
_PROBE_SECONDS: Final = 0.25
_AWAY_SECONDS: Final = 1.5
_CHARACTERS_PER_TOKEN: Final = 4


@dataclass
class Server:
    """Where a teacher answers; `name` is for messages. A worker of the job is its `own`; its `url` is "" while it is not up."""

    name: str
    url: str
    key: str | None
    own: bool = False


class EndpointClient:
    """Sends requests to one server, and keeps how it fares. The server's key goes nowhere but into requests.

    `section` is the part of the recipe with the limits, for messages.
    """

    def __init__(
        self,
        server: Server,
        limits: Requests,
        weight: float = 1.0,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        section: str = "coldstart",
    ) -> None:
        self.name = server.name
        self.weight = weight
        self.in_flight = self.sent = 0
        self.answered = False
        self.out_of_use: Refused | None = None
        self._server = server
        self._limits, self._section = limits, section
        self._key = server.key
        self._faults = self._refusals = self._pauses = 0
        self._probing = False
        self._ready_at = 0.0
        now = time.monotonic()
        self._requests, self._tokens = Budget(requests_per_minute, now), Budget(tokens_per_minute, now)
        self._usual_reply: float | None = None
        self._client = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS),
            limits=httpx2.Limits(max_connections=limits.concurrency, max_keepalive_connections=limits.concurrency),
            follow_redirects=False,
            trust_env=not server.own,  # no proxy leads into the job
        )

    async def close(self) -> None:
        """Gives the connections back; the endpoint is not asked after it."""
        await self._client.aclose()

    def pause(self) -> float:
        """Seconds until the endpoint may be asked again after faults, or is looked for again; 0 if it may be asked now."""
        if not self._server.url:
            return _AWAY_SECONDS
        left = self._ready_at - time.monotonic()
        if left > 0:
            return left
        return _PROBE_SECONDS if self._probing else 0.0

    def budget(self) -> float:
        """Seconds until its rate limits allow a request; 0 if they do now."""
        now = time.monotonic()
        return max(self._requests.wait(now), self._tokens.wait(now))

    async def ask(self, payload: dict[str, Any]) -> Reply:
        """The reply to a chat completion request. Raises a Fault."""
        expected = self._expected(payload)
        self._requests.take(1)
        self._tokens.take(expected)
        self.in_flight += 1
        self.sent += 1
        self._probing = probing = self._faults >= FAULTS_TO_PAUSE
        used = 0
        try:
            reply = await self._request(payload)
            used = reply.prompt_tokens + reply.reply_tokens or expected
        except Fault as fault:
            self._faulty(fault)
            raise
        finally:
            self.in_flight -= 1
            self._probing = self._probing and not probing
            self._tokens.take(used - expected)
        self.answered = True
        self._faults = self._refusals = self._pauses = 0
        self._usual_reply = reply.reply_tokens + 0.9 * ((self._usual_reply or reply.reply_tokens) - reply.reply_tokens)
        return reply

    def _expected(self, payload: dict[str, Any]) -> int:
        """Tokens that a request will use, as far as one can tell before."""
        content = payload["messages"][0]["content"]
        text = content if isinstance(content, str) else content[-1]["text"]
        reply = payload["max_tokens"] if self._usual_reply is None else self._usual_reply
        return int(len(text) / _CHARACTERS_PER_TOKEN + reply)

    def _faulty(self, fault: Fault) -> None:
        now = time.monotonic()
        if isinstance(fault, Refused):
            self._refusals += 1
            if not self.answered or self._refusals >= REFUSALS_TO_END:
                self.out_of_use = fault
        if isinstance(fault, Busy | Failed):
            self._faults += 1
            if self._faults >= FAULTS_TO_PAUSE and self._ready_at <= now:
                self._ready_at = now + backoff(self._pauses)
                self._pauses += 1
        if isinstance(fault, Busy) and fault.wait is not None:
            self._ready_at = max(self._ready_at, now + min(fault.wait, self._limits.patience_seconds))

    async def _request(self, payload: dict[str, Any]) -> Reply:
        limits = self._limits
        try:
            async with asyncio.timeout(limits.total_seconds):
                return await self._exchange(payload)
        except TimeoutError:
            raise self._fault(
                Failed(f"no whole reply within {limits.total_seconds:g} s ({self._section}.total_seconds)")
            ) from None
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            raise self._fault(Busy(f"does not answer ({_said(error)})")) from None
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise self._fault(Failed(f"the connection broke ({_said(error)})")) from None
        except Garbled as error:
            raise self._fault(Failed(str(error))) from None

    async def _exchange(self, payload: dict[str, Any]) -> Reply:
        request = self._client.build_request("POST", f"{self._server.url.rstrip('/')}/chat/completions", json=payload)
        silent = f"no reply began within {self._limits.first_byte_seconds:g} s ({self._section}.first_byte_seconds)"
        response = await self._in_time(self._client.send(request, stream=True), self._limits.first_byte_seconds, silent)
        try:
            good = response.status_code == 200
            body = await self._body(response, LONGEST_REPLY if good else LONGEST_ERROR, silent)
        finally:
            await response.aclose()
        if not good:
            raise self._fault(fault_of(response.status_code, response.headers, body, payload["model"]))
        return parse_completion(body)

    async def _body(self, response: httpx2.Response, most: int, silent: str) -> str:
        """The text of a response, at most `most` bytes of it; what is longer is cut in an error, and no reply otherwise."""
        body = bytearray()  # no list of parts: a server may send one byte at a time
        stalled = f"the reply stopped for {self._limits.read_seconds:g} s ({self._section}.read_seconds)"
        chunks = aiter(response.aiter_bytes())
        seconds, message = self._limits.first_byte_seconds, silent
        while (chunk := await self._in_time(anext(chunks, None), seconds, message)) is not None:
            body += chunk
            seconds, message = self._limits.read_seconds, stalled
            if len(body) > most:
                if response.status_code == 200:
                    raise Garbled(f"the reply is longer than {most >> 20} MiB")
                break
        return bytes(body[:most]).decode("utf-8", errors="replace")

    async def _in_time(self, waited: Awaitable[T], seconds: float, message: str) -> T:
        try:
            async with asyncio.timeout(seconds):
                return await waited
        except TimeoutError:
            raise self._fault(Failed(message)) from None

    def _fault(self, fault: Fault) -> Fault:
        """The fault with the address before it, and without the key, which a server may repeat."""
        message = f"{self.name} {fault}" if isinstance(fault, Busy | Refused) else f"{self.name}: {fault}"
        fault.args = (message.replace(self._key, "***") if self._key else message,)
        return fault


def outside(place: str, endpoint: Endpoint, url: str) -> Server:
    """The server of an endpoint of the recipe at the address `url`. `place` is its teacher's part of the recipe, for messages.

    The key is read from the environment variable that the recipe names. Raises BadInput when that variable is not set.
    """
    address = whole_address(url)
    return Server(address, address, _key(place, endpoint))


def whole_address(url: str) -> str:
    """The address below which requests are sent: servers have them below /v1, which people leave out."""
    return url if urlsplit(url).path.strip("/") else f"{url.rstrip('/')}/v1"


def _key(place: str, endpoint: Endpoint) -> str | None:
    if endpoint.api_key_env is None:
        return None
    key = os.environ.get(endpoint.api_key_env, "").strip()
    if not key:
        raise BadInput(f"{place}.api_key_env: the environment variable {endpoint.api_key_env} is not set; set it to the API key")
    return key


def _said(error: Exception) -> str:
    return one_line(str(error.__cause__ or error) or type(error).__name__)
