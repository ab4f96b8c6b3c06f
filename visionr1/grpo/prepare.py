"""Prompts of the next rollout, made while the trainer works."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from visionr1.data.rows import Row
from visionr1.model.chat import ImageInputs, PromptBuilder
from visionr1.model.prompt import Prompt


@dataclass(frozen=True)
class Prepared:
    """A prompt for the engine, with its pictures as the trainer takes them."""

    prompt: Prompt
    images: ImageInputs | None


class Preparation:
    """Makes prompts in a thread, for the next rollout."""

    def __init__(self, builder: PromptBuilder) -> None:
        self._builder = builder
        self._thread = ThreadPoolExecutor(1, "prompts")
        self._begun: tuple[list[str], Future[list[Prepared]]] | None = None

    def begin(self, rows: Sequence[Row]) -> None:
        """Begins with these rows; `wait` before the tokenizer is used elsewhere, for it is not safe in two threads."""
        self._begun = [row.id for row in rows], self._thread.submit(self._make, rows)

    def wait(self) -> None:
        """Returns when what was begun is done; what went wrong is raised by `take`."""
        if self._begun is not None:
            self._begun[1].exception()

    def take(self, rows: Sequence[Row]) -> list[Prepared]:
        """The prompts of these rows, made now where they were not begun."""
        begun, self._begun = self._begun, None
        if begun is not None and begun[0] == [row.id for row in rows]:
            return begun[1].result()
        return self._make(rows)

    def _make(self, rows: Sequence[Row]) -> list[Prepared]:
        prompts = [self._builder.build(row) for row in rows]
        return [Prepared(prompt, self._builder.image_inputs(prompt.images) if prompt.images else None) for prompt in prompts]
