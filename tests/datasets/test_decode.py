"""Every kind of odd image file: decoded right, or refused with the reason."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from attn_blocks.datasets import decode as module
from attn_blocks.datasets.decode import decode, decode_file, decode_files

RED, GREEN, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (255, 255, 255), (0, 0, 0)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def halves(mode: str, left, right, size=(8, 4)) -> Image.Image:
    image = Image.new(mode, size, left)
    image.paste(right, (size[0] // 2, 0, *size))
    return image


def ends(content: bytes, short_side: int = 64):
    pixels, notes = decode(content, short_side)
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
    return tuple(pixels[0, 0].tolist()), tuple(pixels[-1, -1].tolist()), notes


def test_plain_images_keep_their_pixels_and_are_never_enlarged():
    content = encoded(halves("RGB", RED, GREEN))
    pixels, notes = decode(content, 64)
    assert pixels.shape == (4, 8, 3) and notes == ()
    assert np.array_equal(pixels, np.asarray(halves("RGB", RED, GREEN)))


@pytest.mark.parametrize("size, expected", [((300, 200), (64, 96)), ((200, 300), (96, 64))])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_the_shorter_side_is_scaled_down(size, expected, kind):
    pixels, _ = decode(encoded(halves("RGB", RED, GREEN, size), kind), 64)
    assert pixels.shape == (*expected, 3)
    assert np.abs(pixels[0, 0].astype(int) - RED).max() < 12
    assert np.abs(pixels[-1, -1].astype(int) - GREEN).max() < 12


def test_a_large_jpeg_is_averaged_not_sampled():
    # Stripes of one pixel: any skipped row or column would show as black or white.
    stripes = np.zeros((1024, 1024, 3), np.uint8)
    stripes[:, ::2] = 255
    pixels, _ = decode(encoded(Image.fromarray(stripes), "JPEG", quality=95), 64)
    assert np.abs(pixels.astype(int) - 127).max() < 10


def test_grey_becomes_rgb():
    assert ends(encoded(halves("L", 10, 200)))[:2] == ((10,) * 3, (200,) * 3)
    assert ends(encoded(halves("1", 0, 1)))[:2] == (BLACK, WHITE)


def test_cmyk():
    left, right, notes = ends(encoded(halves("CMYK", (0, 0, 0, 0), (0, 0, 0, 255)), "TIFF"))
    assert (left, right) == (WHITE, BLACK)
    assert notes == ("CMYK: converted to RGB",)
    left, right, _ = ends(encoded(halves("CMYK", (0, 0, 0, 0), (0, 0, 0, 255), (32, 16)), "JPEG"))
    assert (left, right) == (WHITE, BLACK)


def test_16_bit_grey_is_scaled_not_cut():
    values = np.array([[0, 257 * 100, 65535]] * 2, dtype=np.uint16)
    pixels, notes = decode(encoded(Image.fromarray(values)), 64)
    assert pixels[0, :, 0].tolist() == [0, 100, 255]
    assert notes == ("16-bit: scaled to 8",)


@pytest.mark.parametrize("mode, value", [("F", 0.5), ("I", 10**9)])
def test_pixels_without_a_range_are_refused(mode, value):
    with pytest.raises(ValueError, match="no known range"):
        decode(encoded(Image.new(mode, (4, 4), value), "TIFF"), 64)


def test_transparency_is_composited_on_white():
    note = ("transparent: composited on white",)
    assert ends(encoded(halves("RGBA", (0, 0, 0, 0), (*RED, 255)))) == (WHITE, RED, note)
    assert ends(encoded(halves("LA", (0, 0), (0, 255)))) == (WHITE, BLACK, note)
    palette = halves("P", 0, 1)
    palette.putpalette([*GREEN, *RED])
    assert ends(encoded(palette, transparency=0)) == (WHITE, RED, note)
    assert ends(encoded(palette))[:2] == (GREEN, RED)
    # A colour that stands for transparent, in an image without an alpha channel.
    assert ends(encoded(halves("RGB", GREEN, RED), transparency=GREEN)) == (WHITE, RED, note)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_of_an_animation_the_first_frame(kind):
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, GREEN)]
    options = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    left, _, notes = ends(content)
    assert left == RED and "animated: the first frame is used" in notes


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_exif_orientation(orientation, kind):
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16] = RED
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    stored = Image.fromarray(np.ascontiguousarray(undo(upright)))
    pixels, notes = decode(encoded(stored, kind, exif=exif, **options), 64)
    assert pixels.shape == upright.shape
    assert np.abs(pixels.astype(int) - upright).max() < 30
    assert bool(notes) == (orientation > 1 and kind != "TIFF")


def test_damaged_exif_does_not_lose_the_image():
    content = encoded(Image.new("RGB", (16, 16), RED), exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert ends(content)[0] == RED


def test_one_pixel():
    assert decode(encoded(Image.new("RGB", (1, 1), RED)), 64)[0].shape == (1, 1, 3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_30000_pixels_wide(kind):
    content = encoded(Image.new("RGB", (30_000, 20), GREEN), kind)
    assert decode(content, 64)[0].shape == (20, 30_000, 3)
    assert decode(content, 10)[0].shape == (10, 15_000, 3)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_header(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(
        b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    )


@pytest.mark.parametrize("side", [8193, 20_000, 60_000])
def test_decompression_bombs_are_refused_from_the_header(side):
    # The header alone: decoding pixels would fail for another reason.
    content = png_header(side, side) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(ValueError, match="limit of 67,108,864"):
        decode(content, 64)


def test_a_bomb_in_the_text_of_a_png_is_refused():
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(10**8)))
    content = encoded(Image.new("RGB", (4, 4)))
    with pytest.raises(ValueError):
        decode(content[:33] + text + content[33:], 64)


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "the file is empty"),
        (b"I am not an image, only called one", "not an image in a format that is read"),
        (b"<html><body>404 not found</body></html>", "not an image in a format that is read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image in a format"),
        (b"\xff\xd8\xff\xe0", "not an image|damaged"),
    ],
)
def test_what_is_no_image_is_refused(content, reason):
    with pytest.raises(ValueError, match=reason):
        decode(content, 64)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_truncated_files_are_refused(kind):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(noise), kind)
    with pytest.raises(ValueError, match="damaged|not an image"):
        decode(content[: len(content) // 2], 64)


@settings(max_examples=150)
@given(st.data())
def test_any_damage_is_an_outcome_never_another_exception(data):
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"]))
    noise = np.random.default_rng(1).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    content = bytearray(encoded(Image.fromarray(noise), kind))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
        content[place] = data.draw(st.integers(0, 255))
    try:
        pixels, _ = decode(bytes(content), 8)
    except ValueError as error:
        assert str(error)
    else:
        assert pixels.dtype == np.uint8 and min(pixels.shape[:2]) <= 8


def test_files_come_in_order_with_hash_and_reason(tmp_path, monkeypatch, class_folder):
    monkeypatch.setattr(module, "BATCH", 3)
    class_folder(tmp_path, 8)
    (tmp_path / "005.png").write_bytes(b"")
    paths = [str(path) for path in sorted(tmp_path.iterdir())] + [str(tmp_path / "gone.png")]
    outcomes = list(decode_files(paths, 16))
    assert [outcome.reason for outcome in outcomes] == [""] * 5 + ["the file is empty"] + [
        ""
    ] * 2 + ["cannot be read: No such file or directory"]
    assert outcomes[8].digest is None and len({outcome.digest for outcome in outcomes}) == 9
    assert np.array_equal(outcomes[7].pixels, np.asarray(Image.open(paths[7])))


def test_warnings_of_the_consumer_are_not_silenced_but_pillows_are(tmp_path, monkeypatch, picture):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # of which Pillow warns
    path = str(picture(tmp_path / "a.png", size=(4, 4)))
    with pytest.warns(UserWarning) as seen:
        for outcome in decode_files([path], 16):
            assert outcome.pixels is not None
            warnings.warn("the consumer's", stacklevel=1)
    assert [str(warning.message) for warning in seen] == ["the consumer's"]


def test_a_file_that_may_not_be_read_is_an_outcome(tmp_path, monkeypatch, picture):
    path = picture(tmp_path / "secret.png")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    # The superuser may read anything, so the refusal is acted.
    monkeypatch.setattr(module.Path, "open", refuse)
    outcome = decode_file(str(path), 64)
    assert outcome.pixels is None and outcome.reason == "cannot be read: Permission denied"


def test_a_file_beyond_the_byte_limit_is_not_decoded(tmp_path, monkeypatch, picture):
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    outcome = decode_file(str(picture(tmp_path / "large.png")), 64)
    assert outcome.pixels is None and "limit of 100 bytes" in outcome.reason
