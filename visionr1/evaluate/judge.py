"""A judge behind an OpenAI-compatible endpoint. What it says is kept by the hash of what it was asked, and never asked again."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from visionr1.benchmarks.judge import prompts_id
from visionr1.data.coldstart.faults import Unanswerable
from visionr1.data.coldstart.teacher import TeacherClient
from visionr1.data.coldstart.work import WorkLog
from visionr1.evaluate.endpoint import ask_each
from visionr1.progress import progress
from visionr1.recipe import Recipe
from visionr1.recipe.evaluation import Judge
from visionr1.rundir.benchmark_scores import JudgeConditions

T = TypeVar("T")
_TRIES: Final = 3
"""A judge that gives no usable reply is asked so often, in all."""


class JudgeModel:
    """Asks the judge of a recipe; `tokens` are those of this process."""

    def __init__(self, judge: Judge, recipe: Recipe, log: WorkLog) -> None:
        self._judge, self._recipe, self._log = judge, recipe, log
        self.tokens = 0
        self.conditions = JudgeConditions(
            model=judge.model, prompts=prompts_id(), temperature=judge.temperature, max_tokens=judge.max_tokens
        )

    def ask(
        self,
        title: str,
        prompts: Sequence[tuple[str, str]],
        accept: Callable[[str], T | None],
        should_stop: Callable[[], bool],
    ) -> list[T | None]:
        """What the judge says to each (row's id, prompt), as `accept` reads it; None where it says nothing usable.

        Raises as `ask_each`.
        """
        found: dict[str, T | None] = {}
        open_ = {prompt: row_id for row_id, prompt in prompts}
        for attempt in range(_TRIES):
            self._ask(title, open_, attempt, should_stop)
            for prompt in open_:
                reply = self._log.get(self._key(prompt, attempt))
                found[prompt] = None if reply is None else accept(reply.text)
            open_ = {prompt: row_id for prompt, row_id in open_.items() if found[prompt] is None}
        return [found[prompt] for _, prompt in prompts]

    def _ask(self, title: str, prompts: dict[str, str], attempt: int, should_stop: Callable[[], bool]) -> None:
        new = [(prompt, row_id) for prompt, row_id in prompts.items() if self._log.get(self._key(prompt, attempt)) is None]
        if not new:
            return
        with progress(title, len(new)) as advance:

            async def ask(client: TeacherClient, item: tuple[str, str]) -> None:
                prompt, row_id = item
                try:
                    reply = await client.ask(prompt, (), {"seed": attempt})
                except Unanswerable:
                    advance(1)
                    raise
                self._log.add(self._key(prompt, attempt), row_id, "judge", reply)
                self._log.flush()
                self.tokens += reply.prompt_tokens + reply.reply_tokens
                advance(1)

            asyncio.run(ask_each("evaluation.judge", self._judge, self._recipe, new, ask, should_stop))

    def _key(self, prompt: str, attempt: int) -> str:
        """Names a request by all that its reply depends on, but not by the address, since servers move."""
        parts = ["judge", self._judge.model, self._judge.temperature, self._judge.max_tokens, prompt, attempt]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
