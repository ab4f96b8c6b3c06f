"""A model behind an OpenAI-compatible endpoint answers, with many requests open at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from visionr1.data.coldstart.bridge import data_url
from visionr1.data.coldstart.faults import Unanswerable
from visionr1.data.coldstart.reply import Reply
from visionr1.data.coldstart.teacher import EndpointLost, TeacherClient
from visionr1.data.images import open_image
from visionr1.data.rows import IMAGE_MARK
from visionr1.errors import BadInput, Stopped
from visionr1.evaluate.replies import Keep, Wanted
from visionr1.recipe import Recipe
from visionr1.recipe.coldstart import Teacher
from visionr1.recipe.evaluation import ServedModel
from visionr1.recipe.messages import describe

T = TypeVar("T")
SECTION: Final = "evaluation.requests"
_POLL_SECONDS: Final = 0.5
_FEW_FAILURES: Final = 20
"""So many requests without an answer, or one in twenty if that is more, count as wrong; beyond that the endpoint is lost."""


class EndpointModel:
    """The model that an endpoint serves as `model`. `place` is for messages. Raises BadInput for an address that is none."""

    def __init__(self, place: str, model: str, base_url: str, api_key_env: str | None, recipe: Recipe) -> None:
        self._recipe, self._place = recipe, place
        try:
            self._teacher = ServedModel(
                base_url=base_url,
                model=model,
                api_key_env=api_key_env,
                temperature=recipe.evaluation.temperature,
                max_tokens=recipe.evaluation.max_completion_tokens,
            )
        except ValidationError as error:
            raise BadInput(f"{place}: {describe(error.errors()[0])}") from None
        self.depends_on: Mapping[str, Any] = {"endpoint's model": model}
        self.made_with: Mapping[str, Any] = {"endpoint": base_url}

    def answer(self, wanted: Sequence[Wanted], keep: Keep, should_stop: Callable[[], bool]) -> None:
        """As `Answerer`. Raises BadInput or EndpointLost as `TeacherClient.ask`."""

        async def ask(client: TeacherClient, one: Wanted) -> None:
            try:
                keep(one, await self._reply(client, one))
            except Unanswerable:
                keep(one, None)
                raise

        system_prompt = self._recipe.model.system_prompt
        asyncio.run(ask_each(self._place, self._teacher, self._recipe, wanted, ask, should_stop, system_prompt))

    async def _reply(self, client: TeacherClient, wanted: Wanted) -> Reply:
        def prepared() -> tuple[str, list[str]]:
            row = wanted.row
            pictures = [data_url(open_image(image), self._recipe.model) for image in row.images]
            return row.problem.replace(IMAGE_MARK, "").strip(), pictures

        options = {"top_p": self._recipe.evaluation.top_p, "seed": wanted.seed}
        return await client.ask(*await asyncio.to_thread(prepared), options)


async def ask_each(
    place: str,
    teacher: Teacher,
    recipe: Recipe,
    items: Sequence[T],
    ask: Callable[[TeacherClient, T], Awaitable[None]],
    should_stop: Callable[[], bool],
    system_prompt: str | None = None,
) -> None:
    """Calls `ask` with each item, `evaluation.requests.concurrency` of them at a time.

    An item that gets no answer (`Unanswerable`) is passed over, unless there are many. Raises Stopped when asked to stop,
    BadInput or EndpointLost as `TeacherClient.ask`, and EndpointLost for many without an answer.
    """
    limits = recipe.evaluation.requests
    client = TeacherClient(place, teacher, limits, section=SECTION, system_prompt=system_prompt)
    source = iter(items)
    failed: list[Unanswerable] = []

    async def work() -> None:
        for item in source:
            try:
                await ask(client, item)
            except Unanswerable as fault:
                failed.append(fault)
                if len(failed) > max(_FEW_FAILURES, len(items) // 20):
                    raise EndpointLost(f"{len(failed)} requests failed, the last: {fault}; run it again for the rest") from None

    tasks = {asyncio.create_task(work()) for _ in range(min(limits.concurrency, len(items)))}
    running = tasks
    try:
        while running:
            finished, running = await asyncio.wait(running, timeout=_POLL_SECONDS, return_when=asyncio.FIRST_EXCEPTION)
            for task in finished:
                task.result()
            if running and should_stop():
                raise Stopped("stopped while asking; the replies are kept")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await client.close()
