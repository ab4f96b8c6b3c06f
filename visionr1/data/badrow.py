"""What can be wrong with a row, and what its owner can do about it."""

from __future__ import annotations

from typing import Final, Literal

from visionr1.errors import BadInput, printable

Kind = Literal[
    "row malformed",
    "image missing",
    "image path",
    "image unreadable",
    "image size",
    "image marks",
    "too many images",
    "answer missing",
    "answer unreadable",
    "text unusable",
    "text damaged",
    "text too long",
    "prompt too long",
    "sample too long",
]
LONGEST_DETAIL: Final = 300
"""Characters of a row that a message quotes; what a stranger wrote may be a megabyte."""

REMEDIES: Final[dict[Kind, str]] = {
    "row malformed": "repair or remove the row",
    "image missing": "add the file, or set image_root to the folder that the paths start from",
    "image path": "keep images inside image_root; links and .. must not lead out of it",
    "image unreadable": "replace the image by a whole PNG, JPEG or WEBP file",
    "image size": "crop or split the image, or widen model.min_pixels and model.max_pixels",
    "image marks": "write <image> into the problem once per image, at its place",
    "too many images": "leave out images, or join some into one",
    "answer missing": "give the row an answer",
    "answer unreadable": "repair the answer; as it is, no response can be right",
    "text damaged": 'write two backslashes for each one where the JSON is made ("\\\\frac" for \\frac)',
    "text unusable": "remove NUL characters and lone surrogates",
    "text too long": "shorten the text",
    "prompt too long": "raise data.max_prompt_tokens, lower model.max_pixels, or remove the row",
    "sample too long": "raise sft.cutoff_tokens, shorten the response, or remove the row",
}


class BadRow(BadInput):
    """One row that cannot be used; its neighbours can.

    `row_id` is the row's id, `kind` the sort of mistake (see REMEDIES), `detail` what was found, as `one_line` shows it.
    """

    def __init__(self, row_id: str, kind: Kind, detail: str) -> None:
        detail = one_line(detail)
        super().__init__(f"{row_id}: {kind}: {detail}; {REMEDIES[kind]}")
        self.row_id = row_id
        self.kind: Kind = kind
        self.detail = detail

    def __reduce__(self) -> tuple[type[BadRow], tuple[str, Kind, str]]:
        return BadRow, (self.row_id, self.kind, self.detail)


def one_line(text: str) -> str:
    """Text from data, made safe for a message: one line with its first characters, without characters that control a terminal."""
    shown = printable(text[:LONGEST_DETAIL])
    return shown if len(text) <= LONGEST_DETAIL else f"{shown}..."


def is_clean(text: str) -> bool:
    """Whether tokenizers and files can take the text: no NUL, no lone surrogate."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def what(value: object) -> str:
    """What a cell has instead of what it should have, in words."""
    names = {
        str: "unusable text",
        bool: "true or false",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "a group of keys",
    }
    return "missing" if value is None else names.get(type(value), "something else")
