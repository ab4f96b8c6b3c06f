"""A model's tokenizer and chat template, which strangers have written, are first used in a process that can be killed."""

from __future__ import annotations

import json
import stat
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from visionr1.capacity.model import DEMO_BASE
from visionr1.child import Child
from visionr1.errors import BadInput
from visionr1.model.trial_worker import written

MOST_FILE_BYTES: Final = 128 << 20
"""Of each file about the tokenizer; published ones have 15 MB."""
SECONDS: Final = 60.0
"""For loading a tokenizer and encoding a few words, or for writing one prompt; both take less than two."""
_START_SECONDS: Final = 300.0
_PATTERNS: Final = ("*.json", "*.txt", "*.jinja")
_INDEX: Final = "model.safetensors.index.json"


def try_tokenizer(directory: Path) -> None:
    """Sees that the small files of a model can be read, and that its tokenizer loads and encodes with bounded time and memory.

    Raises:
        BadInput: a file is too large or no file, or the tokenizer takes too long or too much.
    """
    for path in (found for pattern in _PATTERNS for found in sorted(directory.glob(pattern))):
        try:
            about = path.stat()
        except OSError as error:
            raise BadInput(f"model.base: {path} cannot be read ({error.strerror}): copy or download it again") from None
        if not stat.S_ISREG(about.st_mode):
            raise BadInput(f"model.base: {path} is no regular file: copy or download it again")
        if about.st_size > MOST_FILE_BYTES and path.name != _INDEX:
            raise BadInput(f"model.base: {path} is larger than {MOST_FILE_BYTES >> 20} MiB, which no tokenizer's file is")
    tokenizer = directory / "tokenizer.json"
    if tokenizer.exists() and tokenizer.read_bytes() != _shipped("tokenizer.json"):
        about = tokenizer.stat()
        _try_tokenizer(str(tokenizer), about.st_size, about.st_mtime_ns)


def written_prompt(directory: Path, template: str, messages: list[dict[str, Any]], tokens: dict[str, Any]) -> str:
    """The messages as the chat template writes them, with the start of the assistant's turn.

    Args:
        directory: of the model, for messages.
        tokens: names and texts of the tokenizer's special tokens, which the template may use.

    Raises:
        BadInput: the template fails, takes too long or too much memory, or writes too much.
    """
    if template.encode() == _shipped("chat_template.jinja"):
        return written(template, messages, tokens)
    return _written_prompt(str(directory), json.dumps({"template": template, "messages": messages, "tokens": tokens}))


def _shipped(name: str) -> bytes:
    """A file of the demo's model. What this package brings needs no trial."""
    return (DEMO_BASE / name).read_bytes()


@lru_cache(maxsize=16)
def _try_tokenizer(path: str, size: int, changed: int) -> None:
    """`size` and `changed` are those of the file: another file at this place is tried again."""
    _asked({"tokenizer": path}, f"model.base: {path}")


@lru_cache(maxsize=16)
def _written_prompt(directory: str, job: str) -> str:
    return _asked(json.loads(job), f"model.base: the chat template in {directory}")


def _asked(job: dict[str, Any], what: str) -> str:
    child = Child("visionr1.model.trial_worker", stderr=subprocess.DEVNULL)
    try:
        child.wait(_START_SECONDS)
        reply: dict[str, str] = child.ask(job, SECONDS)
    except TimeoutError:
        raise BadInput(f"{what} fails: it takes longer than {SECONDS:.0f} s; copy the one of a model that you trust") from None
    except (EOFError, BrokenPipeError):
        raise BadInput(f"{what} fails: it takes too much memory; copy the one of a model that you trust") from None
    finally:
        child.kill()
    if reply["error"]:
        raise BadInput(f"{what} fails: {reply['error']}")
    return reply["text"]
