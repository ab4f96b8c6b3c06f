"""What a file is that stands where an image should be, and what helps."""

from __future__ import annotations

import re
from typing import Final

_LOOKED_AT: Final = 1024
"""Bytes, from the first."""
_HEIF: Final = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis")
"""Brands of ISO/IEC 23008-12 and of AVIF; other files of this family are films."""
_STARTS: Final = (
    (b"version https://git-lfs", "a Git LFS pointer and no image: run git lfs pull"),
    (b"%pdf", "a PDF document, which is not read: convert its pages to PNG"),
    (b"%!ps", "a PostScript drawing, which is not read: convert it to PNG"),
    (b"\xff\x0a", "a JPEG XL image, which is not read: convert it to PNG or JPEG"),
    (b"\0\0\0\x0cjxl ", "a JPEG XL image, which is not read: convert it to PNG or JPEG"),
    (b"\0\0\0\x0cjp  ", "a JPEG 2000 image, which is not read: convert it to PNG or JPEG"),
    (b"\0\0\x01\0", "an icon (ICO), which is not read: convert it to PNG"),
    (b"\x1f\x8b", "a gzip archive and no image: unpack it"),
    (b"pk\x03\x04", "a zip archive and no image: unpack it"),
    (b"data:image/", "the text of a data address and no image: put it into the row, or decode it"),
    (b"ivborw0kggo", "an image in base64: decode it"),
    (b"/9j/", "an image in base64: decode it"),
)
_PROLOGUE: Final = re.compile(rb"(?:<\?xml.*?\?>|<!--.*?-->|<!doctype\s+svg[^>]*>|\s)*", re.DOTALL)
"""What may stand before the first element of a drawing or a page."""


def foreign(data: bytes) -> str:
    """What bytes are that no decoder takes for an image, in words, with what to do."""
    if data[4:8] == b"ftyp":
        if data[8:12] in _HEIF:
            return "a HEIC or AVIF image, which is not read: convert it to PNG or JPEG"
        return "a film and no image: save one of its pictures as PNG"
    start = data[:_LOOKED_AT].removeprefix(b"\xef\xbb\xbf").lower()
    known = next((words for head, words in _STARTS if start.startswith(head)), None)
    return known or _of_text(start) or "not a known image"


def _of_text(start: bytes) -> str | None:
    text = _PROLOGUE.sub(b"", start, count=1)
    if re.match(rb"<(?:\w+:)?svg\b", text):
        return "an SVG drawing, which is not read: convert it to PNG"
    if re.match(rb"<(?:!doctype\s+html|html|head|body|title|meta)\b", text):
        return "a web page and no image: the download has failed"
    if re.match(rb"<error>|\{\s*\"", text):
        return "a server's message and no image: the download has failed"
    return None
