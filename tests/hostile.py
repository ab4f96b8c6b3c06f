"""Images and rows as strangers write them: what can be used, and what must be found before a run."""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

THOUGHT = "<think> t </think><answer> A </answer>"


def encode(image: Image.Image, image_format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def halves() -> Image.Image:
    """56 x 28 pixels: red on the left, blue on the right."""
    image = Image.new("RGB", (56, 28), (250, 10, 10))
    image.paste((10, 10, 250), (28, 0, 56, 28))
    return image


def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def zeros(size: int) -> bytes:
    """`size` zero bytes as zlib packs them, a thousandth as long. Made of one packed MiB: packing gigabytes takes long."""
    whole, rest = divmod(size, 2**20)
    packer, last = (zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS) for _ in range(2))
    block = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = (size % 65521) << 16 | 1
    return b"\x78\xda" + block * whole + last.compress(bytes(rest)) + last.flush() + struct.pack(">I", checksum)


def png_of_zeros(width: int, height: int, colour_type: int = 0, extra: bytes = b"") -> bytes:
    """A whole PNG of black pixels (colour type 0: grey, 2: RGB, 6: RGBA); `extra` chunks stand before the pixels."""
    row = 1 + width * {0: 1, 2: 3, 6: 4}[colour_type]
    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    pixels = chunk(b"IDAT", zeros(row * height))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + pixels + chunk(b"IEND", b"")


def with_bytes(data: bytes, place: int, value: bytes) -> bytes:
    return data[:place] + value + data[place + len(value) :]


def usable_images() -> dict[str, bytes]:
    """By file name; each shows `halves` upright once it is opened, but for pixel.png, which is one red pixel."""
    image = halves()
    rotated = image.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    blue = Image.new("RGB", image.size, (10, 10, 250))
    see_through = image.convert("RGBA")
    return {
        "plain.png": encode(image),
        "cmyk.jpg": encode(image.convert("CMYK"), "JPEG", quality=95),
        "palette.gif": encode(image.quantize(4), "GIF"),
        "palette.png": encode(image.quantize(4)),
        "rotated.jpg": encode(rotated, "JPEG", quality=95, exif=exif),
        "animated.gif": encode(image, "GIF", save_all=True, append_images=[blue]),
        "animated.webp": encode(image, "WEBP", save_all=True, append_images=[blue], lossless=True),
        "see-through.png": encode(see_through),
        "strip.tiff": encode(image, "TIFF", compression="tiff_lzw"),
        "really-a-png.jpg": encode(image),
        "really-a-webp.txt": encode(image, "WEBP", lossless=True),
        "no-suffix": encode(image, "BMP"),
        "pixel.png": encode(Image.new("RGB", (1, 1), (250, 10, 10))),
    }


def bombs() -> dict[str, bytes]:
    """Small files that would take gigabytes of memory."""
    small, grey = Image.new("P", (8, 8)), Image.new("L", (8, 8))
    gif, bmp, jpeg = encode(small, "GIF"), encode(small, "BMP"), encode(grey, "JPEG")
    webp = encode(Image.new("RGBA", (8, 8)), "WEBP", save_all=True, append_images=[Image.new("RGBA", (8, 8), "red")])
    tiff = encode(grey, "TIFF")
    width_tag = tiff.index(struct.pack("<HHI", 256, 4, 1))
    return {
        "bomb.png": png_of_zeros(30_000, 30_000),
        "bomb-text.png": png_of_zeros(56, 56, extra=chunk(b"zTXt", b"k\0\0" + zeros(2**30))),
        "bomb-profile.png": png_of_zeros(56, 56, extra=chunk(b"iCCP", b"k\0\0" + zeros(2**30))),
        "bomb-many-texts.png": png_of_zeros(56, 56, extra=chunk(b"zTXt", b"k\0\0" + zeros(1_000_000)) * 200),
        "bomb-screen.gif": with_bytes(gif, 6, b"\xff\xff\xff\xff"),
        "bomb-frame.gif": with_bytes(gif, gif.index(b",") + 5, b"\xff\xff\xff\xff"),
        "bomb.webp": with_bytes(webp, 24, b"\xfe\x3f\x00\xfe\x3f\x00"),
        "bomb.bmp": with_bytes(bmp, 18, struct.pack("<ii", 40_000, 40_000)),
        "bomb.jpg": with_bytes(jpeg, jpeg.index(b"\xff\xc0") + 5, b"\xff\xff\xff\xff"),
        "bomb.tiff": with_bytes(with_bytes(tiff, width_tag + 8, b"\xff\xff"), width_tag + 20, b"\xff\xff"),
    }


def unusable_images() -> dict[str, bytes]:
    """Damaged and foreign files."""
    whole = {name: encode(noise(), kind) for name, kind in (("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP"), ("gif", "GIF"))}
    return {
        **{f"truncated.{name}": data[: len(data) // 2] for name, data in whole.items()},
        "truncated.tiff": encode(noise(), "TIFF", compression="tiff_lzw")[:3000],
        "empty.png": b"",
        "script.png": b"#!/bin/sh\ntouch /tmp/never\n",
        "page.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
        "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>",
        "archive.png": b"PK\x03\x04" + bytes(100),
    }


def problem(image: Any = "plain.png", text: Any = "<image>?", answer: Any = "1", **more: Any) -> dict[str, Any]:
    return {"image": image, "problem": text, "answer": answer, **more}


def write_problems(root: Path) -> tuple[Path, list[str | None]]:
    """A data set with one row of each sort: `root`/set/rows.jsonl, and for each row the kind of mistake, or None.

    `root` also gets what rows must not reach: secret.png, and a folder outside the set.
    """
    folder = root / "set"
    folder.mkdir()
    (root / "beside").mkdir()
    for place in (root / "secret.png", root / "beside/secret.png"):
        place.write_bytes(encode(halves()))
    (folder / "link.png").symlink_to(root / "secret.png")
    (folder / "folder").symlink_to(root / "beside")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    (folder / "near.png").symlink_to(folder / "plain.png")
    os.mkfifo(folder / "pipe.png")
    usable, bad = usable_images(), unusable_images() | bombs()
    for name, data in (usable | bad).items():
        (folder / name).write_bytes(data)
    (folder / "long.png").write_bytes(encode(Image.new("L", (6000, 20))))
    rows: list[tuple[Any, str | None]] = [(problem(name), None) for name in usable]
    rows += [(problem(name), "image unreadable") for name in bad]
    rows += list(_other_rows(root))
    file = folder / "rows.jsonl"
    with file.open("wb") as lines:
        for row, _ in rows:
            lines.write((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n")
    return file, [kind for _, kind in rows]


def _other_rows(root: Path) -> Iterator[tuple[Any, str | None]]:
    deep: Any = None
    for _ in range(50):
        deep = [deep]
    good = json.dumps(problem())
    yield problem("long.png"), "image size"
    # where images may lie
    yield problem("near.png"), None
    yield problem(["plain.png", "cmyk.jpg"], "<image><image>?"), None
    yield from ((problem(path), "image path") for path in ("../secret.png", str(root / "secret.png"), "/etc/passwd"))
    yield from ((problem(path), "image path") for path in ("link.png", "folder/secret.png", "../beside/secret.png"))
    yield from ((problem(path), "image missing") for path in ("gone.png", "loop.png", "pipe.png", ".", "x" * 5000))
    yield problem("[/red]\x1b[2J\n\u202egnp.png"), "image missing"
    yield from ((problem(image), "row malformed") for image in ("a\0.png", "\ud800.png", 7, True, "", [None], [["plain.png"]]))
    yield problem({"bytes": None, "path": None}), "row malformed"
    # marks
    yield from ((problem(text=text), "image marks") for text in ("no mark", "<image><image>", "<Image>", "<image", ""))
    yield problem([], "<image>"), "image marks"
    yield problem(["plain.png"] * 9, "<image>" * 9), "too many images"
    yield problem(["plain.png"] * 100_000), "image marks"
    # text
    yield from ((problem(text=f"<image>{text}"), "text unusable") for text in ("a\0b", "\ud800", "\udfff"))
    yield from ((problem(answer=answer), "text unusable") for answer in ("a\0", "\ud83d"))
    yield problem(text="<image>" + "x" * 2**20), "text too long"
    yield problem(answer="9" * 2**20), "text too long"
    yield problem(text="<image>" + "long " * 15_000), "prompt too long"
    yield problem(text="<image><|im_start|>system\n<|im_end|><|vision_start|><|image_pad|><|vision_end|><|endoftext|>"), None
    yield problem(text="<image>\u202e \u0000ff e\u0301 \U0001f600 \x1b[31m {{ 7*7 }} </s>".replace("\0", "")), None
    yield problem(text="<image>" + "\r\n\t" * 20), None
    # cells
    yield from ((problem(text=text), "row malformed") for text in (None, 5, ["<image>?"], {"a": 1}, deep))
    yield from ((problem(answer=answer), "answer missing") for answer in (None, "", " \n", float("nan"), float("inf")))
    yield from ((problem(answer=answer), "answer unreadable") for answer in ("\\frac{1}{", "5}"))
    yield from ((problem(text=f"<image>{text}"), "text damaged") for text in ("\frac{1}{2}", "3\times 4", "\boxed{}"))
    yield from ((problem(answer=answer), "row malformed") for answer in (True, ["1"], {"a": "1"}))
    yield from ((problem(answer=answer), None) for answer in (3, -2.5, "\\frac{1}{2}", 10**300))
    yield good.replace('"1"', "9" * 5000).encode(), None
    yield good.replace('"1"', "1e999").encode(), "answer missing"
    yield problem(extra=deep, more="x" * 1000), None
    # lines
    yield b"\xef\xbb\xbf" + good.encode(), None
    yield good.encode() + b"\r", None
    yield good.replace("}", ', "answer": "2"}').encode(), "row malformed"
    yield b"{broken", "row malformed"
    yield b"[1, 2]", "row malformed"
    yield b"null", "row malformed"
    yield b"[" * 100_000, "row malformed"
    yield b"\xff\xfe" + "{}".encode("utf-16-le"), "row malformed"
    yield b'{"problem": "\xff", "answer": "1"}', "row malformed"
    yield b'{"x": "' + b"y" * 2**20 + b'"}', "row malformed"


def turns(user: Any = "<image>?", reply: Any = THOUGHT, roles: tuple[Any, Any] = ("human", "gpt")) -> list[dict[str, Any]]:
    return [{"from": roles[0], "value": user}, {"from": roles[1], "value": reply}]


def sample_rows() -> list[tuple[Any, str | None]]:
    """Chains of thought in both released layouts, and the kind of mistake or None; images as `write_problems` writes them."""
    mulberry = ("user", "assistant")
    cases: list[tuple[Any, str | None]] = [
        ({"id": "x", "image": "plain.png", "conversations": turns()}, None),
        ({"images": "plain.png", "conversations": turns(roles=mulberry)}, None),
        ({"images": ["plain.png"], "conversations": turns(roles=mulberry)}, None),
        ({"images": ["plain.png", "cmyk.jpg"], "conversations": turns("<image><image>?", roles=mulberry)}, None),
        ({"conversations": turns("no image", "just an answer")}, None),
        ({"image": "plain.png", "conversations": turns(reply="<|im_end|><|im_start|><|image_pad|> " + THOUGHT)}, None),
    ]
    cases += [({"image": path, "conversations": turns()}, "image path") for path in ("../secret.png", "/etc/passwd", "link.png")]
    cases += [({"images": ["folder/secret.png"], "conversations": turns()}, "image path")]
    cases += [({"image": path, "conversations": turns()}, "image missing") for path in ("gone.png", "loop.png", ".")]
    cases += [({"image": name, "conversations": turns()}, "image unreadable") for name in ("truncated.png", "bomb.png")]
    cases += [({"image": "plain.png", "conversations": turns(text)}, "image marks") for text in ("?", "<image><image>")]
    for reply in ("<think> never ends", "ends </think> only", "<think> twice <think> </think><answer>A</answer>"):
        cases.append(({"image": "plain.png", "conversations": turns(reply=reply)}, "row malformed"))
    cases += [({"image": "plain.png", "conversations": turns(reply=reply)}, "answer missing") for reply in ("", " \n")]
    cases += [({"image": "plain.png", "conversations": turns(reply=reply)}, "text unusable") for reply in ("a\0", "\ud800")]
    cases += [({"image": "plain.png", "conversations": turns(reply="x" * 2**20)}, "text too long")]
    cases += [({"image": "plain.png", "conversations": turns(reply="word " * 20_000)}, "sample too long")]
    odd: list[Any] = [("gpt", "human"), ("human", "assistant"), ("system", "human"), ("\x1b[2J" * 1000, None), ([], {})]
    for roles in odd:
        cases.append(({"image": "plain.png", "conversations": turns(roles=roles)}, "row malformed"))
    for conversations in (
        None,
        "text",
        [1, 2],
        [],
        turns() * 2,
        turns()[:1],
        turns(5),
        turns(reply=None),
        [turns()],
        {"from": "human"},
    ):
        cases.append(({"image": "plain.png", "conversations": conversations}, "row malformed"))
    twice = json.dumps({"image": "plain.png", "conversations": turns()}).replace('"value"', '"from": "gpt", "value"')
    cases.append((twice.encode(), "row malformed"))
    return cases
