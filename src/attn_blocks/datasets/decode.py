"""One image file to one small RGB array, whatever people put into a data set."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from attn_blocks import device
from attn_blocks.errors import reason_of
from attn_blocks.files import sha256_of

# Checked against the size in the file's header, before any pixel is decoded.
MAX_PIXELS = 2**26
MAX_BYTES = 2**28
# Formats that Pillow reads by itself: nothing that starts another program, as EPS would.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
ORIENTATION, AS_STORED = 0x0112, 1  # the EXIF tag, and its value for an upright image
UPRIGHT = {  # by the EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
BATCH = 256


class Decoded(NamedTuple):
    """The outcome for one file: ``pixels`` [H, W, 3], or None and the ``reason``.

    ``digest`` is the SHA-256 of the file's bytes, or None where they could not be read;
    ``notes`` say what had to be interpreted.
    """

    pixels: np.ndarray | None
    digest: str | None
    reason: str = ""
    notes: tuple[str, ...] = ()


def decode(content: bytes, short_side: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Decode an image to uint8 RGB [H, W, 3], its shorter side at most ``short_side`` pixels.

    Transparent pixels are composited on white, 16-bit grey is scaled to 8, CMYK and grey become
    RGB, EXIF orientation is applied, an animation gives its first frame; the notes returned say
    so. Images are made smaller (bilinear, antialiased), never larger.

    Raises:
        ValueError: not an image that can be read, or more than ``MAX_PIXELS``; with the reason.
    """
    if not content:
        raise ValueError("the file is empty")
    try:
        with Image.open(BytesIO(content), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ValueError(
                    f"{width} x {height} pixels, more than the limit of {MAX_PIXELS:,}"
                )
            return _to_rgb(image, short_side)
    except Image.UnidentifiedImageError:
        raise ValueError("not an image in a format that is read") from None
    except Image.DecompressionBombError:
        raise ValueError(f"more pixels than the limit of {MAX_PIXELS:,}") from None
    except MemoryError:
        raise ValueError("does not fit into memory") from None
    except ValueError:
        raise
    except Exception as error:  # damaged files make the format readers raise anything
        raise ValueError(f"damaged: {reason_of(error)}") from error


def _to_rgb(image: Image.Image, short_side: int) -> tuple[np.ndarray, tuple[str, ...]]:
    notes = []
    if getattr(image, "is_animated", False):
        notes.append("animated: the first frame is used")
    # JPEG decodes straight to a smaller size; twice the target keeps the final resize smooth.
    image.draft("RGB", (2 * short_side, 2 * short_side))
    image.load()
    rotation = UPRIGHT.get(_orientation(image))
    if image.mode == "CMYK":
        notes.append("CMYK: converted to RGB")
    if image.mode[0] in "IF":
        image = _to_8_bit(image)
        notes.append("16-bit: scaled to 8")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
        notes.append("transparent: composited on white")
    image = image.convert("RGB")
    width, height = image.size
    if min(width, height) > short_side:
        scale = short_side / min(width, height)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    if rotation is not None:
        image = image.transpose(rotation)
        notes.append("rotated as its EXIF orientation says")
    return np.asarray(image), tuple(notes)


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ORIENTATION, AS_STORED)
    except Exception:  # a damaged EXIF block does not make the pixels unusable
        return AS_STORED


def _to_8_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if image.mode[0] == "F" or values.min() < 0 or values.max() > 65535:
        raise ValueError(f"pixels of type {image.mode!r} have no known range of brightness")
    return Image.fromarray(np.round(values / 257).astype(np.uint8))


def decode_file(path: str, short_side: int) -> Decoded:
    """Read, hash and decode one file; every failure is an outcome, none is an exception."""
    try:
        with Path(path).open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            reason = f"larger than the limit of {MAX_BYTES:,} bytes"
            return Decoded(None, sha256_of(path), reason)
    except OSError as error:
        return Decoded(None, None, f"cannot be read: {error.strerror}")
    digest = hashlib.sha256(content).hexdigest()
    try:
        pixels, notes = decode(content, short_side)
    except ValueError as error:
        return Decoded(None, digest, str(error))
    return Decoded(pixels, digest, notes=notes)


def decode_files(paths: Sequence[str], short_side: int) -> Generator[Decoded, None, None]:
    """Decode many files with all cores, in order and never far ahead of the consumer."""
    Image.init()
    with (
        warnings.catch_warnings(),
        ThreadPoolExecutor(device.cores(), thread_name_prefix="decode") as pool,
    ):
        # Pillow warns of odd metadata and of sizes that MAX_PIXELS deals with. Nobody else is
        # silenced: the consumer works in here too.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield from _ahead(pool, paths, short_side)


def _ahead(pool: ThreadPoolExecutor, paths: Sequence[str], short_side: int) -> Iterator[Decoded]:
    def submit(start: int) -> Iterable[Decoded]:
        return pool.map(lambda path: decode_file(path, short_side), paths[start : start + BATCH])

    following = submit(0)
    for start in range(BATCH, len(paths) + BATCH, BATCH):
        current, following = following, submit(start)
        yield from current
