"""Teachers behind real HTTP servers with every bad habit that endpoints are known for."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import psutil
import pytest
from pydantic import ValidationError
from rude_endpoint import Behaviour, Handler, RudeEndpoint, dribble, endless, half, reset, rude_endpoint, says, sends, silent

from visionr1.data.coldstart import endpoint as endpoint_room
from visionr1.data.coldstart import limits as limits_room
from visionr1.data.coldstart.faults import Busy, Failed, Refused, Unanswerable, fault_of
from visionr1.data.coldstart.reply import Reply
from visionr1.data.coldstart.teacher import EndpointLost, TeacherClient
from visionr1.errors import BadInput
from visionr1.recipe.coldstart import ColdStart, Teacher
from visionr1.recipe.source import Source

BUSY = json.dumps({"error": {"message": "Rate limit reached"}})


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits_room, "FIRST_BACKOFF", 0.1)


def limits(**values: Any) -> ColdStart:
    return ColdStart.model_validate({"problems": Source(path="unused"), "patience_seconds": 20, "retries": 2, **values})


def client(teacher: Teacher, **values: Any) -> TeacherClient:
    return TeacherClient("coldstart.reasoner", teacher, limits(**values), lambda url: url)


def ask(*endpoints: RudeEndpoint, times: int = 1, **values: Any) -> list[Reply | Exception]:
    """What `times` requests at once get from these endpoints."""

    async def all_of_them() -> list[Reply | Exception]:
        teacher = Teacher.model_validate({"model": "m", "endpoints": [{"base_url": one.url} for one in endpoints]})
        asked = client(teacher, **values)
        try:
            return [
                one if isinstance(one, Reply | Exception) else RuntimeError(one)
                for one in await asyncio.gather(*(asked.ask("q", ()) for _ in range(times)), return_exceptions=True)
            ]
        finally:
            await asked.close()

    return asyncio.run(all_of_them())


def error(result: Reply | Exception, kind: type[Exception]) -> str:
    assert isinstance(result, kind), result
    return str(result)


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("1", 0.95, 2.0),
        ("0.6", 0.55, 1.5),
        ("date", 0.9, 3.0),
        ("soon, please", 0.05, 1.0),
        ("", 0.05, 1.0),
    ],
)
def test_a_full_endpoint_is_asked_again_when_it_says(header: str, least: float, most: float) -> None:
    def full(handler: Any) -> None:
        now = datetime.now(UTC)
        told = format_datetime(now + timedelta(seconds=2), usegmt=True) if header == "date" else header
        sends(429, BUSY, Retry_After=told, Date=format_datetime(now, usegmt=True))(handler)

    with rude_endpoint(full) as endpoint:
        (reply,) = ask(endpoint)
    assert isinstance(reply, Reply) and reply.text == "yes"
    assert least <= endpoint.times[1] - endpoint.times[0] <= most


@pytest.mark.parametrize(
    "bad",
    [
        sends(500, '{"error": {"message": "oops"}}'),
        sends(503, "<html><body>Service Unavailable</body></html>", "text/html"),
        sends(200, "<!DOCTYPE html><html>busy</html>", "text/html"),
        sends(200, '{"error": {"message": "server busy", "code": 503}}'),
        sends(200, "{"),
        sends(200, "[]"),
        sends(200, ""),
        says(""),
        says("", finish="insufficient_system_resource"),
        reset,
    ],
)
def test_a_fault_that_passes_costs_another_request(bad: Behaviour) -> None:
    with rude_endpoint(bad) as endpoint:
        (reply,) = ask(endpoint)
    assert isinstance(reply, Reply) and len(endpoint.times) == 2


@pytest.mark.parametrize(
    ("behaviour", "limit", "said"),
    [
        (silent, {"first_byte_seconds": 0.3}, "no reply began within 0.3 s"),
        (half, {"read_seconds": 0.3}, "the reply stopped for 0.3 s"),
        (dribble, {"total_seconds": 0.5}, "no whole reply within 0.5 s"),
    ],
)
def test_silence_costs_its_limit_and_not_the_run(behaviour: Behaviour, limit: dict[str, Any], said: str) -> None:
    with rude_endpoint(last=behaviour) as endpoint:
        began = time.monotonic()
        (result,) = ask(endpoint, **limit, retries=0)
        assert time.monotonic() - began < 2
    assert said in error(result, Unanswerable) and "coldstart.reasoner http://127" in str(result)
    with rude_endpoint(behaviour) as endpoint:
        (reply,) = ask(endpoint, **limit)
    assert isinstance(reply, Reply)


def test_a_reply_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_room, "LONGEST_REPLY", 1 << 20)
    with rude_endpoint(endless) as endpoint:
        (reply,) = ask(endpoint)
    assert isinstance(reply, Reply)


def packed(encoding: str, size: int) -> bytes:
    """So many bytes as a server would pack them: a thousandth of the size."""
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16 if encoding == "gzip" else zlib.MAX_WBITS)
    return b"".join(packer.compress(bytes(2**20)) for _ in range(size >> 20)) + packer.flush()


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_reply_that_unpacks_to_much_more_is_cut_while_it_is_read(encoding: str) -> None:
    body = packed(encoding, 600 << 20)

    def behave(handler: Handler) -> None:
        handler.head(200, len(body), Content_Encoding=encoding)
        with suppress(OSError):  # the client hangs up
            handler.wfile.write(body)

    before = psutil.Process().memory_info().rss
    with rude_endpoint(last=behave) as endpoint, watched_memory() as most:
        (result,) = ask(endpoint, retries=0)
    assert "the reply is longer than 64 MiB" in error(result, Unanswerable)
    assert most[0] - before < 300 << 20


@contextmanager
def watched_memory() -> Iterator[list[int]]:
    """The most resident bytes of this process while the block runs."""
    most, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            most[0] = max(most[0], psutil.Process().memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body", "kind", "said"),
    [
        (400, '{"error": {"message": "This model\'s maximum context length is 4096 tokens."}}', Unanswerable, "context length"),
        (400, '{"message": "bad field"}', Unanswerable, "HTTP 400: bad field"),
        (400, '{"error": {"code": "content_filter", "message": "no"}}', Unanswerable, "HTTP 400: no"),
        (413, "", Unanswerable, "HTTP 413"),
        (401, "{}", Refused, "refuses the key"),
        (402, "{}", Refused, "no balance left"),
        (403, "{}", Refused, "refuses the key"),
        (404, "{}", Refused, "does not know the model 'm'"),
        (429, '{"error": {"code": "insufficient_quota", "message": "You exceeded your quota"}}', Refused, "no balance left"),
        (307, "", Refused, "redirect to elsewhere, which is not followed"),
        (429, BUSY, Busy, "HTTP 429: Rate limit reached"),
        (503, "<html>", Busy, "HTTP 503: an HTML page"),
        (500, "", Failed, "HTTP 500"),
        (409, "", Failed, "HTTP 409"),
    ],
)
def test_what_a_status_means(status: int, body: str, kind: type[Exception], said: str) -> None:
    fault = fault_of(status, {}, body, "m")
    assert type(fault) is kind and said in str(fault)


def test_rules_of_requests_that_cannot_be_answered() -> None:
    long = fault_of(400, {}, '{"error": {"message": "maximum context length is 4096 tokens"}}', "m")
    objected = fault_of(400, {}, '{"error": {"code": "data_inspection_failed", "message": "no"}}', "m")
    assert isinstance(long, Unanswerable) and long.rule == "too long for the teacher"
    assert isinstance(objected, Unanswerable) and objected.rule == "refused"


def test_a_request_that_cannot_be_answered_is_sent_once() -> None:
    with rude_endpoint(says(), last=sends(400, '{"error": {"message": "no"}}')) as endpoint:
        results = [ask(endpoint)[0], ask(endpoint)[0]]
    assert isinstance(results[0], Reply) and "HTTP 400: no" in error(results[1], Unanswerable) and len(endpoint.times) == 2


@pytest.mark.parametrize("status", [401, 402, 403, 404, 301])
def test_a_refusal_before_any_answer_ends_at_once(status: int) -> None:
    with rude_endpoint(last=sends(status, "{}", Location="http://elsewhere.example/v1")) as endpoint:
        results = ask(endpoint, times=3)
    assert all(str(one).startswith("coldstart.reasoner: http://127") for one in results)
    assert all(isinstance(one, BadInput) for one in results) and len(endpoint.times) <= 3


def test_one_refusal_among_answers_costs_one_request_and_a_row_of_them_ends_it() -> None:
    paid = [says(), sends(402, "{}"), says()]
    with rude_endpoint(*paid, last=sends(402, "{}")) as endpoint:

        async def one_by_one() -> list[str]:
            teacher = client(Teacher(model="m", base_url=endpoint.url))
            results = [await asyncio.gather(teacher.ask("q", ()), return_exceptions=True) for _ in range(8)]
            await teacher.close()
            return [type(one).__name__ for (one,) in results]

        assert asyncio.run(one_by_one()) == ["Reply", "Unanswerable", "Reply", *["Unanswerable"] * 4, "BadInput"]


def test_an_endpoint_that_is_away_for_a_while_is_waited_for() -> None:
    began = time.monotonic()

    def loading(handler: Any) -> None:
        (sends(503, '{"error": "loading model"}') if time.monotonic() - began < 1.5 else says())(handler)

    with rude_endpoint(last=loading) as endpoint:
        results = ask(endpoint, times=12, retries=0)
    assert all(isinstance(one, Reply) for one in results)
    assert len(endpoint.times) < 60, "while it is away, one request at a time looks whether it is back"


def test_patience_ends() -> None:
    with rude_endpoint(says(), last=sends(429, BUSY)) as endpoint:

        async def two() -> list[Any]:
            teacher = client(Teacher(model="m", base_url=endpoint.url), patience_seconds=1)
            return [(await asyncio.gather(teacher.ask("q", ()), return_exceptions=True))[0] for _ in range(2)]

        answered, lost = asyncio.run(two())
    assert isinstance(answered, Reply)
    assert error(lost, EndpointLost).startswith("coldstart.reasoner has given no answer for 1 s (coldstart.patience_seconds)")
    with rude_endpoint(last=sends(429, BUSY, Retry_After="86400")) as endpoint:
        began = time.monotonic()
        assert "Rate limit reached" in error(ask(endpoint)[0], EndpointLost)
        assert time.monotonic() - began < 1 and len(endpoint.times) == 1


def test_a_server_that_is_not_there_is_one_line() -> None:
    teacher = RudeEndpoint("http://127.0.0.1:9", says())
    text = error(ask(teacher, patience_seconds=0)[0], BadInput)
    assert text.startswith("coldstart.reasoner: http://127.0.0.1:9/v1 does not answer (") and "start the server" in text


def test_work_is_shared_by_weight_and_a_broken_endpoint_is_left_out() -> None:
    def slow(handler: Any) -> None:
        time.sleep(0.02)
        says()(handler)

    with rude_endpoint(last=slow) as one, rude_endpoint(last=slow) as two, rude_endpoint(last=sends(500, "")) as broken:

        async def many() -> list[Reply]:
            servers = [{"base_url": one.url, "weight": 3}, {"base_url": two.url}, {"base_url": broken.url}]
            teacher = client(Teacher.model_validate({"model": "m", "endpoints": servers}), retries=5)
            room = asyncio.Semaphore(8)

            async def one_of_them() -> Reply:
                async with room:
                    return await teacher.ask("q", ())

            try:
                return await asyncio.gather(*(one_of_them() for _ in range(80)))
            finally:
                await teacher.close()

        assert len(asyncio.run(many())) == 80
        assert len(one.times) > 1.8 * len(two.times) and len(one.times) + len(two.times) == 80
        assert len(broken.times) <= 20


def test_a_refusing_endpoint_among_several_is_named_and_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    with rude_endpoint() as good, rude_endpoint(last=sends(401, "{}")) as bad:
        results = ask(good, bad, times=10)
    assert all(isinstance(one, Reply) for one in results)
    assert f"{bad.url}/v1 refuses the key (HTTP 401)" in capsys.readouterr().err


@pytest.mark.parametrize("limit", [{"requests_per_minute": 600}, {"tokens_per_minute": 600 * 110}])
def test_rate_limits_are_kept(limit: dict[str, float]) -> None:
    with rude_endpoint(last=says(usage=(10, 100))) as endpoint:

        async def many() -> float:
            teacher = client(
                Teacher.model_validate({"model": "m", "max_tokens": 100, "endpoints": [{"base_url": endpoint.url, **limit}]})
            )
            began = time.monotonic()
            await asyncio.gather(*(teacher.ask("q", ()) for _ in range(115)))
            await teacher.close()
            return time.monotonic() - began

        seconds = asyncio.run(many())
    assert 1.0 <= seconds < 4, "100 at once, as ten seconds allow, and ten per second after that"


def test_an_address_without_v1_is_asked_below_it() -> None:
    with rude_endpoint() as endpoint:
        ask(endpoint)
    assert endpoint.paths == ["/v1/chat/completions"]


@pytest.mark.parametrize("url", ["http://me:sk-secret@host/v1", "http://host/v1?api_key=sk-secret", "http://sk-secret@host"])
def test_an_address_with_a_key_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ValidationError, match="must not have a user name, a password or a key in it") as caught:
        Teacher(model="m", base_url=url)
    assert "sk-secret" not in str(caught.value.errors(include_input=False))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "give base_url, or endpoints"),
        ({"base_url": "http://a/v1", "endpoints": [{"base_url": "http://b/v1"}]}, "give base_url, or endpoints"),
        ({"base_url": "http://a/v1", "workers": {}}, "give base_url, or endpoints with a base_url each, or workers"),
        ({"workers": {}, "api_key_env": "VISIONR1_KEY"}, "api_key_env goes with base_url"),
        ({"endpoints": [{"base_url": "http://b/v1"}], "api_key_env": "VISIONR1_KEY"}, "api_key_env goes with base_url"),
    ],
)
def test_endpoints_are_named_once(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Teacher.model_validate({"model": "m", **values})


def test_tokens_and_cost_are_counted() -> None:
    with rude_endpoint(last=says(usage=(1000, 500))) as endpoint:

        async def costs() -> tuple[int, int, float]:
            teacher = client(Teacher(model="m", base_url=endpoint.url, prompt_price=2.0, reply_price=8.0))
            await teacher.ask("q", ())
            await teacher.close()
            return teacher.prompt_tokens, teacher.reply_tokens, teacher.cost

        *tokens, cost = asyncio.run(costs())
    assert tokens == [1000, 500] and cost == pytest.approx(0.006)


def test_an_own_client_is_told_what_is_waited_for() -> None:
    with rude_endpoint(sends(429, BUSY, Retry_After="2")) as endpoint:

        async def look(seen: Callable[[str], None]) -> None:
            teacher = client(Teacher(model="m", base_url=endpoint.url))
            asked = asyncio.create_task(teacher.ask("q", ()))
            await asyncio.sleep(0.3)
            seen(teacher.waiting())
            await asked
            seen(teacher.waiting())
            await teacher.close()

        said: list[str] = []
        asyncio.run(look(said.append))
    assert said[0].startswith("coldstart.reasoner is busy or away, asked again in ") and said[1] == ""
