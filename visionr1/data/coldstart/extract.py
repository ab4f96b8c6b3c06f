"""Reads thought, conclusion and answer from what reasoners really write."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from visionr1.data.coldstart.reply import Reply

LONGEST_BARE_ANSWER: Final = 80

_END_TOKENS: Final = re.compile(
    r"(?:\s*(?:<\|(?:im_end|endoftext|eot_id|end|end_of_text|return)\|>|</s>|<｜end▁of▁sentence｜>|<eos>|<end_of_turn>|\[EOS\]))+\s*$"
)
_LAST_OF_END_TOKENS: Final = (">", "]")
_MARKS: Final = r"[\s*_#>]*"
_NAME: Final = (
    r"(?:final\s+answer|(?:the\s+)?(?:correct\s+)?answer|ans|最终答案|正确答案|答案|最終的な答え|答え|정답|답|respuesta(?:\s+final|\s+correcta)?"
    r"|réponse(?:\s+finale)?|(?:endgültige\s+)?antwort|risposta(?:\s+finale)?|resposta(?:\s+final)?|(?:окончательный\s+)?ответ)"
)
_LINE: Final = re.compile(
    rf"^{_MARKS}{_NAME}{_MARKS}(?:[:：]|(?=\n)|(?:is|是|为|es|est|ist|è|é)\s*[:：]){_MARKS}(?P<answer>\S.*)",
    re.IGNORECASE | re.MULTILINE | re.DOTALL,
)
"""A line that begins with "Final Answer:", also as a heading or in bold, and all that follows."""
_LEAD_ALONE: Final = re.compile(rf"{_MARKS}{_NAME}{_MARKS}[:：]?{_MARKS}", re.IGNORECASE)
_FINAL: Final = re.compile(r"final answer[\s*_:]*(?:is\b[\s*:]*)?(?P<answer>\S.*)", re.IGNORECASE)
_ANSWER_IS: Final = re.compile(
    r"(?:\banswer(?: (?:is|must be|should be|would be)\b|:)|答案(?:是|为)|respuesta\s+es\b"
    r"|réponse\s+est\b|antwort\s+(?:ist|lautet)\b)[\s*:：]*(?:option |choice |therefore |thus )?(?P<answer>\S.*)",
    re.IGNORECASE,
)
_OPTION: Final = re.compile(r"\b(?:option|choice)\s+\(?(?P<answer>[A-H])\b")
_SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s+|\n+")
_DISPLAY: Final = re.compile(r"\\\[(.*?)\\\]|\$\$(.*?)\$\$", re.DOTALL)
_NO_ANSWER: Final = re.compile(
    r"(?:consistent|correct|right|as above|verified|confirmed|therefore|thus|found|obtained)\b", re.IGNORECASE
)
"""How a sentence about an answer goes on that does not name it."""


@dataclass(frozen=True)
class Parts:
    """A reply taken apart; `ends` counts the ends of thought that it has."""

    thought: str
    conclusion: str
    ends: int


def parts(reply: Reply) -> Parts:
    """Thought and conclusion; a thought that came in its own field and in the text, too, is taken once."""
    text = _without_end_tokens(reply.text)
    if reply.reasoning.strip():
        thought, conclusion = _once(reply.reasoning, text)
        whole = f"<think>{thought}</think>{conclusion}"
    else:
        whole = text
    thought, end, conclusion = whole.rpartition("</think>")
    if not end:
        return Parts("", conclusion, 0)
    return Parts(_without_end_tokens(thought.strip().removeprefix("<think>")).strip(), conclusion, whole.count(end))


def _without_end_tokens(text: str) -> str:
    # Most texts have none, and the pattern takes long to see it.
    return _END_TOKENS.sub("", text) if text.rstrip().endswith(_LAST_OF_END_TOKENS) else text


def _once(reasoning: str, text: str) -> tuple[str, str]:
    inline, end, conclusion = text.partition("</think>")
    opened = inline.lstrip().startswith("<think>")
    field, again = (" ".join(part.replace("<think>", "").split()) for part in (reasoning, inline))
    if end and field == again:
        return reasoning, conclusion
    if end and opened and (field in again or again in field):
        return (inline.lstrip().removeprefix("<think>") if len(again) > len(field) else reasoning), conclusion
    return reasoning, text


def final_answer(conclusion: str) -> str | None:
    r"""The answer in the text after the thought.

    It is what follows the last line that begins with `Final Answer:` (or the like in other languages), else the last `\boxed`,
    else what "the answer is", else all of a text of one short line.
    """
    text = _inside_block(_without_end_tokens(conclusion)).strip()
    led = [found["answer"] for found in _lines(text)]
    for after in reversed(led):
        answer = _first(after)
        if answer is not None and not _NO_ANSWER.match(answer):
            return answer
    if boxed(text) is not None:
        return _clean(text)
    for pattern in (_FINAL, _ANSWER_IS):
        for found in reversed([*pattern.finditer(text)]):
            answer = _clean(found["answer"])
            if answer is not None and not _NO_ANSWER.match(answer):
                return answer
    display = [*_DISPLAY.finditer(text)]
    if display and not _DISPLAY.sub("", text).strip():
        return _clean(display[-1][1] or display[-1][2])
    bare = len(text) <= LONGEST_BARE_ANSWER and "\n" not in text and not _LEAD_ALONE.fullmatch(text)
    return _clean(text) if bare else None


def _inside_block(text: str) -> str:
    """What is in the only answer block; the text without such tags where there is another number of them."""
    before, opened, rest = text.partition("<answer>")
    inside, closed, after = rest.partition("</answer>")
    if opened and closed and "<answer>" not in after and inside.strip():
        return inside
    return "\n".join((before, rest.replace("</answer>", "\n").replace("<answer>", "\n")))


def _lines(text: str) -> list[re.Match[str]]:
    """Lines that lead in an answer; each match has all that follows it."""
    found, position = [], 0
    while match := _LINE.search(text, position):
        found.append(match)
        position = match.start("answer")
    return found


def _first(after: str) -> str | None:
    """The answer at the start of a text: display maths, or a line."""
    line = after.split("\n", 1)[0]
    display = _DISPLAY.match(after)
    if display:
        return _clean(display[1] or display[2])
    if line.count("\\boxed{") and boxed(line) is None:  # a box over several lines
        return _clean(after)
    return _clean(line)


def closing_answer(thought: str) -> str | None:
    """The answer that the last sentence of a chain names, if it names one."""
    last = [sentence for sentence in _SENTENCE_END.split(thought.strip()[-2000:]) if sentence.strip()][-1]
    if boxed(last) is not None:
        return _clean(last)
    for pattern in (_FINAL, _ANSWER_IS, _OPTION):
        if found := [*pattern.finditer(last)]:
            return _clean(found[-1]["answer"])
    return None


def boxed(text: str) -> str | None:
    r"""What the last `\boxed{...}` holds, its own braces respected."""
    start = text.rfind("\\boxed{")
    depth = 0
    for place in range(start + 6, len(text)) if start >= 0 else ():
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[start + 7 : place]
    return None


def _clean(text: str) -> str | None:
    """An answer without box, emphasis and full stop; None if nothing is left."""
    inside = boxed(text)
    answer = (text if inside is None else inside).replace("**", "").strip(" \t\n`*_")
    return answer.removesuffix(".").removesuffix("。").strip() or None
