"""The process in which `trial.py` uses a stranger's tokenizer and chat template first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from visionr1.child import limit_memory, serve
from visionr1.data.badrow import one_line

_MEMORY_GIB: Final = 8
"""Address space, of which the libraries reserve some without using it."""
_MOST_CHARACTERS: Final = 1 << 20
_SAMPLE: Final = "".join(map(chr, range(32, 127))) + " 12345 äöü 数学 \n\n  def f(x):\n\treturn x ** 2\n" + "a" * 200


def main() -> None:
    """Serves until the parent closes the pipe, with a limit on its memory."""
    limit_memory(_MEMORY_GIB)
    serve(_start)


def _start() -> tuple[object, Callable[[Any], object]]:
    return {}, _answered


def _answered(job: dict[str, Any]) -> dict[str, str]:
    try:
        text = _encoded(job["tokenizer"]) if "tokenizer" in job else written(**job)
    except MemoryError:
        return {"error": "it takes too much memory", "text": ""}
    except Exception as error:  # a template is a program, and a tokenizer's file nearly one: they fail in any way
        return {"error": one_line(str(error)) or type(error).__name__, "text": ""}
    if len(text) > _MOST_CHARACTERS:
        return {"error": f"it writes more than {_MOST_CHARACTERS >> 20} MiB for one short message", "text": ""}
    return {"error": "", "text": text}


def written(template: str, messages: list[dict[str, Any]], tokens: dict[str, Any]) -> str:
    """One conversation as a chat template writes it, in the sandbox of transformers."""
    from transformers.utils.chat_template_utils import render_jinja_template

    rendered: Any = render_jinja_template([messages], chat_template=template, add_generation_prompt=True, **tokens)
    return str(rendered[0][0])


def _encoded(path: str) -> str:
    from tokenizers import Tokenizer

    Tokenizer.from_file(path).encode(_SAMPLE)
    return ""


if __name__ == "__main__":
    main()
