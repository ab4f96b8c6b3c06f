"""Modality bridging, section 3.3.1: image -> pseudo-CoT -> description -> reasoning in text alone."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Literal

from PIL import Image

from visionr1.data.badrow import BadRow
from visionr1.data.check import check_row
from visionr1.data.coldstart import signs
from visionr1.data.coldstart.evaluation_sets import EvaluationSets
from visionr1.data.coldstart.faults import Unanswerable
from visionr1.data.coldstart.filters import Rejection, refusal, tells_answer
from visionr1.data.coldstart.reply import Reply
from visionr1.data.coldstart.teacher import TeacherClient
from visionr1.data.coldstart.templates import Templates, fill
from visionr1.data.coldstart.work import WorkLog, request_key
from visionr1.data.images import BadImage, fit, open_image
from visionr1.data.rows import IMAGE_MARK, Row
from visionr1.recipe.coldstart import ColdStart
from visionr1.recipe.schema import Model
from visionr1.storage import StorageError

Step = Literal["pseudo_cot", "description", "reasoning"]
Fields = Mapping[str, str | None]


class _NoBridge(Exception):
    """The describer answered, but with nothing that the next step could use."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(rejection.excerpt)
        self.rejection = rejection


@dataclass(frozen=True)
class Bridged:
    """A problem's place and id, its true answer ("": not known), and the reasoner's replies or why there are none.

    `images` is how many pictures the problem has.
    """

    index: int
    row_id: str
    truth: str
    images: int
    replies: tuple[Reply | Rejection, ...]


@dataclass
class Bridge:
    """The requests of a problem; replies that the work log has are not asked for again."""

    recipe: ColdStart
    model: Model
    templates: Templates
    describer: TeacherClient
    reasoner: TeacherClient
    work: WorkLog
    evaluation_sets: EvaluationSets
    asked: int = 0
    reused: int = 0
    failures: int = 0
    last_failure: str = ""
    _open: dict[str, asyncio.Future[Reply]] = field(default_factory=dict)
    _writes: bool = False

    def prepared(self, row: Row) -> Prepared:
        """A row with its pictures as they are sent, if it has not been asked about; for a thread, since that takes a while."""
        problem = Prepared(row, self.model, votes=self.recipe.samples > 1)
        step, prompt = self._first(problem)
        if self._request(step, problem, prompt) not in self.work:
            problem.make_urls()
        return problem

    async def reason(self, index: int, problem: Prepared | BadRow) -> Bridged:
        """The reasoner's replies about a row, or why there are none. Raises as `TeacherClient.ask`."""
        if isinstance(problem, BadRow):
            return Bridged(index, problem.row_id, "", 0, (Rejection("bad row", str(problem)),))
        row, truth = problem.row, problem.row.answer.strip()
        try:
            known = await self.evaluation_sets.find(row)
            if known is not None:
                return self._dropped(problem, index, Rejection("in an evaluation set", known))
            description = await self._description(problem, truth)
            replies = [await self._sample(problem, description, truth, sample) for sample in range(self.recipe.samples)]
        except BadRow as error:
            return self._dropped(problem, index, Rejection("bad row", str(error)))
        except Unanswerable as error:
            return self._dropped(problem, index, self._failed(error))
        except _NoBridge as error:
            return self._dropped(problem, index, error.rejection)
        return Bridged(index, row.id, truth, len(row.images), tuple(replies))

    def _dropped(self, problem: Prepared, index: int, rejection: Rejection) -> Bridged:
        return Bridged(index, problem.row.id, problem.row.answer.strip(), len(problem.row.images), (rejection,))

    def _failed(self, error: Unanswerable) -> Rejection:
        if error.rule == "request failed":
            self.failures += 1
            self.last_failure = str(error)
        return Rejection(error.rule, str(error))

    def _first(self, problem: Prepared) -> tuple[Step, str]:
        """The first step of a problem, and what is asked in it."""
        truth = problem.row.answer.strip()
        if self.recipe.pseudo_cot and truth:
            return "pseudo_cot", fill(self.templates.pseudo_cot, {"question": problem.question, "answer": truth})
        return "description", self._anchored(fill(self.templates.description_alone, {"question": problem.question}))

    def _anchored(self, prompt: str) -> str:
        return f"{prompt}\n\n{self.templates.anchored.strip()}" if self.recipe.control == "anchored" else prompt

    async def _description(self, problem: Prepared, truth: str) -> str:
        step, prompt = self._first(problem)
        description = await self._describe(step, problem, prompt)
        if step == "pseudo_cot":
            fields = {"question": problem.question, "thinking process": description}
            description = await self._describe("description", problem, self._anchored(fill(self.templates.description, fields)))
        if self.recipe.control == "anchored" and len(set(signs.REGIONS.findall(description.lower()))) < 2:
            raise _NoBridge(Rejection("no regions", f"the description names no regions: {description[:100]}"))
        hidden = (
            truth and not self.recipe.give_answer_to_reasoner and "description tells the answer" not in self.recipe.filters.off
        )
        if hidden and (words := tells_answer(description, truth)):
            raise _NoBridge(Rejection("description tells the answer", words))
        return description

    async def _describe(self, step: Step, problem: Prepared, prompt: str) -> str:
        reply = await self._ask(step, problem, prompt)
        text = without_thought(reply.text)
        if reply.finish_reason == "content_filter":
            raise _NoBridge(Rejection("refused", f"step {step}: finish reason 'content_filter'"))
        if reply.finish_reason != "stop":
            raise _NoBridge(
                Rejection("no description", f"the text of step {step} was cut (finish reason {reply.finish_reason!r})")
            )
        if not text:
            raise _NoBridge(Rejection("no description", f"step {step} gave no text"))
        if "refused" not in self.recipe.filters.off and (words := refusal(text[:400])):
            raise _NoBridge(Rejection("refused", f"step {step}: {words}"))
        return text

    async def _sample(self, problem: Prepared, description: str, truth: str, sample: int) -> Reply | Rejection:
        given = truth if truth and self.recipe.give_answer_to_reasoner else None
        fields: Fields = {"question": problem.question, "description": description, "answer": given}
        try:
            return await self._ask("reasoning", problem, fill(self.templates.reasoning, fields), sample)
        except Unanswerable as error:
            return self._failed(error)

    def _sees(self, step: Step) -> bool:
        return step != "reasoning" and self.recipe.control != "text"

    def _request(self, step: Step, problem: Prepared, prompt: str, sample: int = 0) -> str:
        teacher = self.recipe.reasoner if step == "reasoning" else self.recipe.describer
        return request_key(teacher, self.model, prompt, problem.pictures if self._sees(step) else (), sample)

    def _keep(self, request: str, row_id: str, step: Step, reply: Reply) -> None:
        """Replies that come in one turn of the event loop are written at its end."""
        self.work.add(request, row_id, step, reply)
        if not self._writes:
            self._writes = True
            asyncio.get_running_loop().call_soon(self._write_out)

    def _write_out(self) -> None:
        self._writes = False
        with suppress(StorageError):  # the next flush tells it, where somebody waits for it
            self.work.write_out()

    async def _ask(self, step: Step, problem: Prepared, prompt: str, sample: int = 0) -> Reply:
        request = self._request(step, problem, prompt, sample)
        reply = self.work.get(request)
        if reply is not None:
            self.reused += 1
            return reply
        if request in self._open:  # two rows that are the same in all but their place
            self.reused += 1
            return await asyncio.shield(self._open[request])
        answered = self._open[request] = asyncio.get_running_loop().create_future()
        try:
            urls = await problem.urls()
            client = self.reasoner if step == "reasoning" else self.describer
            reply = await client.ask(prompt, urls if self._sees(step) else ())
            self.asked += 1
            self._keep(request, problem.row.id, step, reply)
            answered.set_result(reply)
        except BaseException as error:
            answered.set_exception(error)
            answered.exception()  # seen here, should nobody wait for it
            raise
        finally:
            del self._open[request]
        return reply


class Prepared:
    """A row, and what is made of its pictures when it is needed."""

    def __init__(self, row: Row, model: Model, votes: bool) -> None:
        self.row = row
        self.question = row.problem.replace(IMAGE_MARK, "").strip()
        self.pictures = [hashlib.sha256(image).hexdigest() for image in row.images]
        self._model, self._votes = model, votes
        self._urls: list[str] | None = None
        self._fault: BadRow | None = None

    def make_urls(self) -> None:
        """Makes the pictures as they are sent; a fault is told when they are asked for."""
        try:
            self._urls = self._make()
        except BadRow as error:
            self._fault = error

    async def urls(self) -> Sequence[str]:
        """The pictures as they are sent. Raises BadRow for a row that cannot be trained on."""
        if self._urls is None and self._fault is None:
            await asyncio.to_thread(self.make_urls)
        if self._fault is not None:
            raise self._fault
        return self._urls or []

    def _make(self) -> list[str]:
        if not self.row.images:
            raise BadRow(self.row.id, "image missing", "modality bridging needs an image, but this problem has none")
        # Where samples vote, a problem needs no answer; its text is looked at like any other.
        unknown = self._votes and not self.row.answer.strip()
        text = replace(self.row, images=(), answer="unknown" if unknown else self.row.answer)
        check_row(text, self._model.min_pixels, self._model.max_pixels)
        return [self._url(image) for image in self.row.images]

    def _url(self, image: bytes) -> str:
        try:
            opened = open_image(image)
        except BadImage as error:
            raise BadRow(self.row.id, "image unreadable", str(error)) from None
        try:
            return data_url(opened, self._model)
        except BadImage as error:
            raise BadRow(self.row.id, "image size", str(error)) from None


def without_thought(text: str) -> str:
    """What a describer that thinks aloud says after its thought; "" if the thought has no end."""
    _, end, after = text.rpartition("</think>")
    return after.strip() if end else text.partition("<think>")[0].strip()


def data_url(image: Image.Image, model: Model) -> str:
    """The picture as the trained model will see it. So training can see everything that the describer describes."""
    buffer = io.BytesIO()
    fit(image, model.min_pixels, model.max_pixels).save(
        buffer, "PNG", compress_level=1
    )  # a third of the time, for some more bytes
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
