"""The scripted teacher: an OpenAI-compatible endpoint that replaces the two large teachers of section 3.3.1.

It is no language model. A small classifier reads the digits in the picture that it is sent (and
sometimes misreads one), and templates answer the three steps of modality bridging. Step 3 sees text
alone, so what the description lacks is lost, just as for a real text-only reasoner. Some replies are bad
on purpose, for the filter to drop. The same request always gets the same reply.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import json
import re
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import TYPE_CHECKING, Any, Final, Literal

import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from visionr1.data.digits import CELL, KINDS, PLACES, draw, scans
from visionr1.demo.chains import REFLECTIONS, chain

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image
    from sklearn.svm import SVC

MODEL: Final = "scripted-teacher"
_KNOWN_SCANS: Final = 500
"""Train scans that the classifier learns from: few enough that it misreads some pictures."""

VAGUE: Final = 0.02
"""Part of the descriptions that leave the digits out."""
ENDLESS: Final = 0.03
"""Part of the chains that never come to an end."""
SLOPPY: Final = 0.03
"""Part of the chains that begin with one of SLIPS_OF_THE_TONGUE, which no replacement of words can fix."""
SLIPS_OF_THE_TONGUE: Final = (
    "As described, I have only words to go by.",
    "I cannot see the picture itself.",
    "The given answer must come out of this.",
)
BOOKISH: Final = 0.05
"""Part of the chains that mention the description in words that the replacement fixes."""


@dataclass(frozen=True)
class Reply:
    """What an endpoint answers."""

    text: str
    finish_reason: Literal["stop", "length"] = "stop"


def pseudo_cot(kind: str, picture: Image.Image) -> Reply:
    """Step 1: a caption and short reasoning, from the picture and the question."""
    digits = read_digits(picture)
    working = KINDS[kind].working(digits, KINDS[kind].answer(digits))
    return Reply(f"Caption:\n{_description(picture, digits)}\nReasoning:\n{working}")


def description(picture: Image.Image, random: Random) -> Reply:
    """Step 2: everything about the picture that the question needs, in words; now and then too vague."""
    digits = read_digits(picture)
    if random.random() < VAGUE:
        return Reply("The image shows some handwritten digits on a white ground.")
    return Reply(_description(picture, digits))


def _description(picture: Image.Image, digits: Sequence[int]) -> str:
    import numpy as np

    shades = np.asarray(picture.convert("L"))
    cells = np.split(shades, len(digits), axis=1)
    sentences = [
        f"The {place.lower()} digit is {digit}; its ink covers {(cell < 128).mean():.0%} of its square."
        for place, digit, cell in zip(PLACES[len(digits)], digits, cells, strict=True)
    ]
    return f"The image shows {len(digits)} handwritten digits side by side. {' '.join(sentences)}"


_DIGIT_IN_WORDS: Final = re.compile(r"(?:\bThe (left|middle|right) digit is|\b(Left|Middle|Right)) (\d)\b")
"""As this teacher describes a picture, and as the demo's base model does, which can take its place."""


def reasoning(kind: str, prompt: str, random: Random) -> Reply:
    """Step 3: a chain of thought from the prompt's words alone."""
    reported = {(place or name).lower(): int(digit) for place, name, digit in _DIGIT_IN_WORDS.findall(prompt)}
    digits = list(reported.values())
    if len(digits) not in KINDS[kind].counts:
        return Reply("<think> The image is not provided, so I have to guess. </think>\n\nI cannot answer without the image.")
    text, answer = chain(kind, digits, random)
    manner = random.random()
    if manner < ENDLESS:
        return Reply(f"<think> {text} " + " ".join(random.choices(REFLECTIONS, k=40)), "length")
    if manner < ENDLESS + SLOPPY:
        text = f"{random.choice(SLIPS_OF_THE_TONGUE)} {text}"
    elif manner < ENDLESS + SLOPPY + BOOKISH:
        text = f"The description says: {text}"
    return Reply(f"<think> {text} </think>\n\nFinal Answer: {answer}")


def read_digits(picture: Image.Image) -> list[int]:
    """The digits that the classifier sees, left to right; wrong in about one picture of fifteen."""
    import numpy as np

    count = min(PLACES, key=lambda places: abs(places - picture.width / picture.height))
    squares = picture.resize((CELL * count, CELL)).convert("L")
    cells = [squares.crop((CELL * place, 0, CELL * (place + 1), CELL)) for place in range(count)]
    return [int(digit) for digit in _classifier().predict(np.stack([_features(cell) for cell in cells]))]


def _features(cell: Image.Image) -> NDArray[np.float64]:
    import numpy as np

    ink: NDArray[np.float64] = 1 - np.asarray(cell.resize((8, 8)), dtype="float64").ravel() / 255
    return ink


@cache
def _classifier() -> SVC:
    import numpy as np
    from sklearn.svm import SVC

    ink_N88, label_N = scans("train")
    known = np.tile(np.arange(_KNOWN_SCANS), 2)
    random = np.random.default_rng(0)
    cells = [draw(ink[None], random).convert("L") for ink in ink_N88[known]]
    return SVC(C=10).fit(np.stack([_features(cell) for cell in cells]), label_N[known])


def answer(messages: list[dict[str, Any]]) -> Reply:
    """The reply to a chat. The picture and the pseudo-CoT in the prompt show which step it is.

    Raises:
        ValueError: the prompt has no question of the demo, or has a picture that cannot be read.
    """
    parts = [part for message in messages for part in _parts(message)]
    prompt = "\n".join(part["text"] for part in parts if part["type"] == "text")
    pictures = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    kind = next((name for name, kind in KINDS.items() if kind.question in prompt), None)
    if kind is None:
        raise ValueError(f"the scripted teacher knows only the demo's questions: {[kind.question for kind in KINDS.values()]}")
    random = Random(hashlib.sha256(json.dumps(messages, sort_keys=True).encode()).digest())
    if not pictures:
        return reasoning(kind, prompt, random)
    picture = _decode(pictures[0])
    return description(picture, random) if _DIGIT_IN_WORDS.search(prompt) else pseudo_cot(kind, picture)


def _parts(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _decode(url: str) -> Image.Image:
    from PIL import Image, UnidentifiedImageError

    head, _, data = url.partition(",")
    if not re.fullmatch(r"data:image/[a-z]+;base64", head):
        raise ValueError("pictures must come as data:image/...;base64 URLs")
    try:
        return Image.open(io.BytesIO(base64.b64decode(data, validate=True))).convert("RGB")
    except (binascii.Error, UnidentifiedImageError, OSError) as error:
        raise ValueError(f"this picture cannot be read: {error}") from error


def application() -> FastAPI:
    """`/v1/models` and `/v1/chat/completions`, as far as an OpenAI client needs them."""
    app = FastAPI(title=MODEL, openapi_url=None)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "visionr1"}]}

    @app.post("/v1/chat/completions")
    async def chat_completions(request: dict[str, Any]) -> JSONResponse:
        if request.get("model") != MODEL:
            return _refusal(404, f"there is no model {request.get('model')!r} here, only {MODEL!r}")
        try:
            reply = answer(request["messages"])
        except (KeyError, TypeError, ValueError) as error:
            return _refusal(400, f"cannot answer this request: {error}")
        message = {"role": "assistant", "content": reply.text}
        choice = {"index": 0, "message": message, "finish_reason": reply.finish_reason, "logprobs": None}
        envelope = {"id": "chatcmpl-scripted", "object": "chat.completion", "created": 0, "model": MODEL}
        return JSONResponse({**envelope, "choices": [choice]})

    return app


def _refusal(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}, status)


@contextmanager
def scripted_teacher() -> Iterator[str]:
    """Serve the teacher on a free port of this machine; gives its base URL, `http://127.0.0.1:<port>/v1`."""
    _classifier()
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(application(), log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name=MODEL, daemon=True)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("the scripted teacher's server did not start; its message is above")
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
