from __future__ import annotations

import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from visionr1.data.images import GRID, MAX_ASPECT, BadImage, fit, fit_size, image_suffix, image_tokens, open_image

SIDES = st.one_of(st.integers(1, 64), st.integers(1, 9000))


def encode(image: Image.Image, image_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


@settings(max_examples=1000, deadline=None)
@given(SIDES, SIDES, st.integers(784, 1_000_000), st.integers(4, 20))
@example(42, 4970, 16730, 16)
def test_fitted_size_is_what_the_processor_would_choose_and_leaves_it_nothing_to_do(
    width: int, height: int, min_pixels: int, ratio: int
) -> None:
    max_pixels = min_pixels * ratio
    try:
        fitted = fit_size(width, height, min_pixels, max_pixels)
    except BadImage:
        # A side of almost 56 pixels that becomes 28 makes the image almost twice as long.
        assert max(width, height) / min(width, height) > MAX_ASPECT / 2
        return
    assert fitted[0] % GRID == fitted[1] % GRID == 0
    assert min_pixels <= fitted[0] * fitted[1] <= max_pixels
    assert smart_resize(fitted[1], fitted[0], GRID, min_pixels, max_pixels) == (fitted[1], fitted[0])
    theirs = smart_resize(height, width, GRID, min_pixels, max_pixels)
    if min_pixels <= theirs[0] * theirs[1] <= max_pixels:
        assert fitted == (theirs[1], theirs[0])


def test_aspect_ratio_over_the_limit_is_refused() -> None:
    assert fit_size(200 * 28, 28, 784, 10**7) == (5600, 28)
    with pytest.raises(BadImage, match="over 200 times"):
        fit_size(201 * 28, 28, 784, 10**7)
    # Rounding to the grid may itself push a legal ratio over the limit, which the processor would then refuse.
    with pytest.raises(BadImage, match="over 200 times"):
        fit_size(29 * 200, 29, 784, 10**7)


def test_limits_without_room_are_refused_rather_than_looped_over() -> None:
    with pytest.raises(BadImage, match="no size in multiples of 28"):
        fit_size(56, 56, 784 * 3, 784 * 3)


def test_fit_returns_the_same_image_when_it_already_fits() -> None:
    image = Image.new("RGB", (112, 56))
    assert fit(image, 784, 10**6) is image
    assert fit(Image.new("RGB", (100, 50)), 784, 10**6).size == (112, 56)


def test_image_tokens_count_grid_squares() -> None:
    assert image_tokens(112, 56) == 8


def test_exif_rotation_is_applied() -> None:
    image = Image.new("RGB", (30, 10))
    exif = image.getexif()
    exif[0x0112] = 6
    assert open_image(encode(image, "JPEG", exif=exif)).size == (10, 30)


def test_transparency_lies_on_white() -> None:
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert open_image(encode(clear)).getpixel((0, 0)) == (255, 255, 255)
    palette = Image.new("P", (4, 4), 3)
    palette.putpalette([0, 0, 0] * 3 + [9, 9, 9])
    assert open_image(encode(palette, "PNG", transparency=3)).getpixel((0, 0)) == (255, 255, 255)
    assert open_image(encode(palette, "PNG")).getpixel((0, 0)) == (9, 9, 9)
    grey = Image.new("LA", (4, 4), (0, 128))
    assert open_image(encode(grey)).getpixel((0, 0)) == (127, 127, 127)


def test_cmyk_becomes_rgb() -> None:
    white = open_image(encode(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "JPEG"))
    assert white.mode == "RGB"
    assert np.asarray(white).min() > 250


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    grey = Image.fromarray(np.array([[0, 32768, 65535]], dtype=np.uint16))
    opened = open_image(encode(grey))
    assert np.asarray(opened)[0, :, 0].tolist() == [0, 127, 255]


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for image_format in ("GIF", "WEBP"):
        data = encode(frames[0], image_format, save_all=True, append_images=frames[1:])
        red, _, blue = np.asarray(open_image(data))[4, 4]
        assert red > 200 and blue < 50


@pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(BadImage):
        open_image(data)


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_truncated_images_are_refused(image_format: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    data = encode(noise, image_format)
    with pytest.raises(BadImage):
        open_image(data[: len(data) // 2])


def test_decompression_bombs_are_refused_before_they_are_decoded() -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    for side in (9_000, 40_000):
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
        with pytest.raises(BadImage):
            open_image(bomb)


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_bytes_never_raise_anything_else(data: st.DataObject) -> None:
    whole = encode(Image.new("RGB", (20, 20), "red"), data.draw(st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])))
    spoiled = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 8))):
        spoiled[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BadImage):
        assert open_image(bytes(spoiled)).mode == "RGB"


def test_suffix_follows_the_bytes() -> None:
    picture = Image.new("RGB", (4, 4))
    assert [image_suffix(encode(picture, kind)) for kind in ("PNG", "JPEG", "WEBP")] == [".png", ".jpg", ".webp"]


def test_the_real_diagrams_open(geometry3k: Path) -> None:
    for file in geometry3k.glob("*.png"):
        image = open_image(file.read_bytes())
        assert image.mode == "RGB" and min(image.size) > 20
