"""A teacher: one model behind one or more servers, asked until it answers or it is plain that it will not."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from visionr1.data.coldstart.endpoint import EndpointClient, Server, outside
from visionr1.data.coldstart.faults import Busy, Failed, Fault, Refused, Unanswerable
from visionr1.data.coldstart.limits import backoff
from visionr1.data.coldstart.reply import Reply
from visionr1.errors import BadInput, Unreachable
from visionr1.recipe.coldstart import Requests, Teacher


class EndpointLost(Unreachable):
    """A teacher that has answered does so no longer; trying again later can help."""


class TeacherClient:
    """Asks one teacher.

    `place` is the part of the recipe that it comes from, and `section` the part with the limits, for messages; `resolve_url`
    turns a base_url into an address that can be called. `workers` are the servers of the job itself, for a teacher that has
    workers. `system_prompt` goes before each prompt. Raises BadInput when an environment variable with a key is not set.
    """

    def __init__(
        self,
        place: str,
        teacher: Teacher,
        limits: Requests,
        resolve_url: Callable[[str], str] = lambda url: url,
        workers: Sequence[Server] = (),
        section: str = "coldstart",
        system_prompt: str | None = None,
    ) -> None:
        self.prompt_tokens = self.reply_tokens = 0
        self._place = place
        self._teacher = teacher
        self._limits, self._section = limits, section
        self._before = [{"role": "system", "content": system_prompt}] if system_prompt is not None else []
        self._endpoints = [
            EndpointClient(
                outside(place, endpoint, resolve_url(endpoint.base_url)),
                limits,
                endpoint.weight,
                endpoint.requests_per_minute,
                endpoint.tokens_per_minute,
                section,
            )
            for endpoint in teacher.servers
        ]
        self._endpoints += [EndpointClient(server, limits, section=section) for server in workers]
        self._answered_at: float | None = None

    @property
    def tokens(self) -> int:
        """Tokens of prompts and replies so far, as the endpoints have counted them."""
        return self.prompt_tokens + self.reply_tokens

    @property
    def cost(self) -> float:
        """What the tokens so far cost, in the currency of the recipe's prices."""
        return (self.prompt_tokens * self._teacher.prompt_price + self.reply_tokens * self._teacher.reply_price) / 1e6

    def waiting(self) -> str:
        """What is shown while no endpoint can be asked; "" otherwise."""
        pause = min(endpoint.pause() for endpoint in self._endpoints)
        return f"{self._place} is busy or away, asked again in {pause:.0f} s" if pause > 1 else ""

    async def close(self) -> None:
        """Gives the connections back; the teacher is not asked after it."""
        for endpoint in self._endpoints:
            await endpoint.close()

    async def ask(self, prompt: str, images: Sequence[str], options: Mapping[str, Any] | None = None) -> Reply:
        """The reply to `images` (data URLs) and the prompt; `options` are more values of the request, such as `seed`.

        Raises:
            Unanswerable: this request gets no answer, retries included.
            EndpointLost: the teacher has answered no request for as long as the recipe has patience.
            BadInput: every endpoint refuses, or cannot be reached and has never answered.
        """
        request = _Request(self._payload(prompt, images) | dict(options or {}))
        while True:
            endpoint = await self._free(request)
            try:
                reply = await endpoint.ask(request.payload)
            except Refused as fault:
                self._refused(request, endpoint, fault)
            except Failed as fault:
                request.tries += 1
                if request.tries > self._limits.retries:
                    raise Unanswerable(f"{self._place} {fault}", "request failed") from None
                await asyncio.sleep(backoff(request.tries - 1))
            except Busy as fault:
                await self._wait(request, fault, backoff(request.waits) if fault.wait is None else fault.wait)
            except Unanswerable as fault:
                raise Unanswerable(f"{self._place} {fault}", fault.rule) from None
            else:
                self._answered_at = time.monotonic()
                self.prompt_tokens += reply.prompt_tokens
                self.reply_tokens += reply.reply_tokens
                return reply
            request.last = endpoint

    def _payload(self, prompt: str, images: Sequence[str]) -> dict[str, Any]:
        content: list[Any] = [{"type": "image_url", "image_url": {"url": url}} for url in images]
        content.append({"type": "text", "text": prompt})
        return {
            "model": self._teacher.model,
            "messages": [*self._before, {"role": "user", "content": content if images else prompt}],
            "temperature": self._teacher.temperature,
            "max_tokens": self._teacher.max_tokens,
        }

    async def _free(self, request: _Request) -> EndpointClient:
        """An endpoint that takes a request now; waits for one if none does."""
        while True:
            allowed = [one for one in self._endpoints if one.out_of_use is None and one not in request.refused_by]
            if not allowed:
                raise self._none_left(request)
            chosen = _least_busy([one for one in allowed if not one.pause() and not one.budget()], request.last)
            if chosen is not None:
                return chosen
            pauses = [one.pause() for one in allowed]
            if min(pauses) > 0:
                away = Busy(f"{', '.join(one.name for one in allowed)} is given a pause after errors")
                await self._wait(request, request.fault or away, min(pauses))
            else:
                await asyncio.sleep(min(max(one.pause(), one.budget()) for one in allowed))

    async def _wait(self, request: _Request, fault: Busy, seconds: float) -> None:
        """Sleeps, unless that would be longer than the recipe has patience."""
        now = time.monotonic()
        request.fault = fault
        request.waits += 1
        request.waits_since = now if request.waits_since is None else request.waits_since
        if now + seconds - request.waits_since <= self._limits.patience_seconds:
            await asyncio.sleep(seconds * random.uniform(1.0, 1.05))
            return
        if self._answered_at is not None and self._answered_at >= request.waits_since:
            raise Unanswerable(f"{self._place} {fault}", "request failed")
        if self._answered_at is None and "does not answer" in str(fault):
            raise BadInput(f"{self._place}: {fault}; start the server or correct base_url")
        patience = f"{self._limits.patience_seconds:g} s ({self._section}.patience_seconds)"
        raise EndpointLost(f"{self._place} has given no answer for {patience}, the last: {fault}; run it again for the rest")

    def _refused(self, request: _Request, endpoint: EndpointClient, fault: Refused) -> None:
        request.refused_by.append(endpoint)
        request.refusal = fault
        if endpoint.out_of_use is fault and any(one.out_of_use is None for one in self._endpoints):
            print(f"{self._place}: {fault}; the other endpoints go on without it", file=sys.stderr, flush=True)

    def _none_left(self, request: _Request) -> Exception:
        in_use = [one for one in self._endpoints if one.out_of_use is None]
        fault = request.refusal or self._endpoints[0].out_of_use
        if in_use:
            return Unanswerable(f"{self._place} {fault}", "request failed")
        return BadInput(f"{self._place}: {fault}")


class _Request:
    """One request on its way, and what it has met so far."""

    def __init__(self, payload: dict[str, Any]) -> None:
        self.payload = payload
        self.tries = self.waits = 0
        self.waits_since: float | None = None
        self.fault: Busy | None = None
        self.refusal: Fault | None = None
        self.refused_by: list[EndpointClient] = []
        self.last: EndpointClient | None = None


def _least_busy(endpoints: Collection[EndpointClient], last: EndpointClient | None) -> EndpointClient | None:
    """The one with the fewest requests for its weight, and not the one that has just failed if there is another."""
    return min(
        endpoints,
        key=lambda one: (one is last, (one.in_flight + 1) / one.weight, one.sent / one.weight),
        default=None,
    )
