"""Opens images from untrusted data, and fits them to Qwen2.5-VL's grid."""

from __future__ import annotations

import io
import math
import threading
import warnings
from contextlib import nullcontext
from typing import Final

from PIL import Image, ImageOps, UnidentifiedImageError

from visionr1.data.foreign import foreign
from visionr1.errors import BadInput

GRID: Final = 28
"""Pixels per side of one image token: patches of 14, merged 2 x 2."""
MAX_ASPECT: Final = 200
MAX_IMAGE_PIXELS: Final = 64_000_000
LARGE: Final = 16_000_000
"""Pixels from which images are decoded one at a time, so that threads do not multiply their memory (up to 0.6 GB each)."""
FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""Decoders that are plain pixel readers; the others are never tried (EPS would start a program)."""


_one_large_image = threading.Lock()
# What Pillow tolerates is used as it is, and what is too large for us is refused below its own limit.
warnings.filterwarnings("ignore", module=r"PIL(\.|$)")


class BadImage(BadInput):
    """An image that cannot be used; the message says why."""


def open_image(data: bytes) -> Image.Image:
    """Decode one encoded image file to upright RGB.

    EXIF rotation is applied, transparency becomes white, 16-bit grey is scaled, and of an animation
    the first frame is taken. Raises BadImage for anything unreadable or over MAX_IMAGE_PIXELS.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        pixels = image.width * image.height
        if pixels <= MAX_IMAGE_PIXELS:
            with _one_large_image if pixels > LARGE else nullcontext():
                return _upright_rgb(image)
    # Pillow's decoders raise nearly anything for hostile bytes (OSError, ValueError, SyntaxError, struct.error, ...).
    except Exception as error:
        kind = foreign(data) if isinstance(error, UnidentifiedImageError) else f"damaged image ({error})"
        if isinstance(error, Image.DecompressionBombError):
            kind = f"image over the limit of {MAX_IMAGE_PIXELS:,} pixels"
        raise BadImage(f"{kind}, {len(data)} bytes") from error
    raise BadImage(f"image of {image.width} x {image.height} pixels, over the limit of {MAX_IMAGE_PIXELS:,}")


def image_suffix(data: bytes) -> str:
    """File name suffix of an encoded image, such as `.png`; for bytes that `open_image` accepts."""
    image_format = Image.open(io.BytesIO(data), formats=FORMATS).format or "PNG"
    return {"JPEG": ".jpg", "MPO": ".jpg"}.get(image_format, f".{image_format.lower()}")


def _upright_rgb(image: Image.Image) -> Image.Image:
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode in ("I", "F"):
        raise ValueError("32-bit pixels")
    if image.mode.startswith("I;16"):
        image = image.point(lambda value: value * (1 / 257)).convert("L")
    if "transparency" in image.info or image.mode in ("RGBA", "RGBa", "LA", "La", "PA"):
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        return white
    return image.convert("RGB")


def fit_size(width: int, height: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """Width and height in pixels, multiples of GRID, area within the limits, aspect kept as well as the grid allows.

    The rule is the Qwen2-VL processor's `smart_resize`, repeated until it would change nothing more, so the
    processor leaves a fitted image alone. (One round can miss the limits on very long images.)
    Raises BadImage for an aspect ratio over MAX_ASPECT, or limits so close that no size is between them.
    """
    shortest = math.ceil(max(width, height) / MAX_ASPECT)
    pad = f", or pad the short side to {shortest} pixels" if shortest > min(width, height) else ""
    # The side can only shrink or grow towards the limits; limits that are too close together make it alternate for ever.
    for _ in range(16):
        if max(width, height) > MAX_ASPECT * min(width, height):
            raise BadImage(
                f"image of {width} x {height} pixels is too long: one side is over {MAX_ASPECT} times the other; crop it{pad}"
            )
        fitted = _one_round(width, height, min_pixels, max_pixels)
        if fitted == (width, height):
            return fitted
        width, height = fitted
    raise BadImage(
        f"no size in multiples of {GRID} has between {min_pixels} and {max_pixels} pixels at this image's aspect ratio"
    )


def _one_round(width: int, height: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    across, down = round(width / GRID), round(height / GRID)
    area = across * down * GRID * GRID
    if area > max_pixels:
        shrink = math.sqrt(width * height / max_pixels)
        across = max(1, math.floor(width / shrink / GRID))
        down = max(1, math.floor(height / shrink / GRID))
    elif area < min_pixels:
        grow = math.sqrt(min_pixels / (width * height))
        across = math.ceil(width * grow / GRID)
        down = math.ceil(height * grow / GRID)
    return across * GRID, down * GRID


def fit(image: Image.Image, min_pixels: int, max_pixels: int) -> Image.Image:
    """The image at `fit_size`, resampled bicubically as Qwen's processor does. Raises BadImage as `fit_size`."""
    size = fit_size(image.width, image.height, min_pixels, max_pixels)
    return image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)


def image_tokens(width: int, height: int) -> int:
    """Tokens of a fitted image: one for each GRID x GRID square."""
    return width * height // (GRID * GRID)
