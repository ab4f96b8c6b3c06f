"""Modality bridging, section 3.3.1: image -> pseudo-CoT -> description -> reasoning in text alone."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from visionr1.data.badrow import BadRow
from visionr1.data.check import check_row
from visionr1.data.coldstart.faults import Unanswerable
from visionr1.data.coldstart.filters import Rejection
from visionr1.data.coldstart.reply import Reply
from visionr1.data.coldstart.teacher import TeacherClient
from visionr1.data.coldstart.templates import Templates, fill
from visionr1.data.coldstart.work import WorkLog, request_key
from visionr1.data.images import fit, open_image
from visionr1.data.rows import IMAGE_MARK, Row
from visionr1.recipe.schema import ColdStart, Model

Step = Literal["pseudo_cot", "description", "reasoning"]
Fields = Mapping[str, str | None]


class _NoDescription(Exception):
    """The describer answered, but with nothing that the next step could use."""


@dataclass(frozen=True)
class Bridged:
    """A problem's id, its true answer, and the reasoner's reply or why there is none."""

    row_id: str
    truth: str
    reply: Reply | Rejection


@dataclass
class Bridge:
    """The three requests of a problem; replies that the work log has are not asked for again."""

    recipe: ColdStart
    model: Model
    templates: Templates
    describer: TeacherClient
    reasoner: TeacherClient
    work: WorkLog
    asked: int = 0
    reused: int = 0
    failures: list[str] = field(default_factory=list)

    async def reason(self, rows: Sequence[Row], index: int) -> Bridged:
        """The reasoner's reply about row `index`, or why there is none. Raises as `TeacherClient.ask`."""
        try:
            row = await asyncio.to_thread(self._read, rows, index)
        except BadRow as error:
            return Bridged(error.row_id, "", Rejection("bad row", str(error)))
        try:
            return Bridged(row.id, row.answer, await self._bridge(row))
        except Unanswerable as error:
            if error.rule == "request failed":
                self.failures.append(str(error))
            return Bridged(row.id, row.answer, Rejection(error.rule, str(error)))
        except _NoDescription as error:
            return Bridged(row.id, row.answer, Rejection("no description", str(error)))

    def _read(self, rows: Sequence[Row], index: int) -> Row:
        row = rows[index]
        if not row.images:
            raise BadRow(row.id, "image missing", "modality bridging needs an image, but this problem has none")
        check_row(row, self.model.min_pixels, self.model.max_pixels)
        return row

    async def _bridge(self, row: Row) -> Reply:
        question = row.problem.replace(IMAGE_MARK, "").strip()
        pseudo_cot = await self._describe("pseudo_cot", row, {"question": question, "answer": row.answer})
        description = await self._describe("description", row, {"question": question, "thinking process": pseudo_cot})
        given = row.answer if self.recipe.give_answer_to_reasoner else None
        return await self._ask("reasoning", row, {"question": question, "description": description, "answer": given})

    async def _describe(self, step: Step, row: Row, fields: Fields) -> str:
        reply = await self._ask(step, row, fields)
        text = without_thought(reply.text)
        if reply.finish_reason != "stop":
            raise _NoDescription(f"the text of step {step} was cut (finish reason {reply.finish_reason!r})")
        if not text:
            raise _NoDescription(f"step {step} gave no text")
        return text

    async def _ask(self, step: Step, row: Row, fields: Fields) -> Reply:
        prompt = fill(getattr(self.templates, step), fields)
        sees = step != "reasoning"
        teacher = self.recipe.describer if sees else self.recipe.reasoner
        client = self.describer if sees else self.reasoner
        images = row.images if sees else ()
        request = request_key(teacher, self.model, prompt, images)
        reply = self.work.get(request)
        if reply is not None:
            self.reused += 1
            return reply
        urls = await asyncio.to_thread(lambda: [data_url(image, self.model) for image in images])
        reply = await client.ask(prompt, urls)
        self.asked += 1
        self.work.add(request, row.id, step, reply)
        return reply


def without_thought(text: str) -> str:
    """What a describer that thinks aloud says after its thought; "" if the thought has no end."""
    _, end, after = text.rpartition("</think>")
    return after.strip() if end else text.partition("<think>")[0].strip()


def data_url(image: bytes, model: Model) -> str:
    """The picture as the trained model will see it: whatever the describer tells can then be seen in training."""
    buffer = io.BytesIO()
    fit(open_image(image), model.min_pixels, model.max_pixels).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
