"""Decoding against files whose bytes are written by hand or by another library, and the geometry of crops."""

import hashlib
import struct
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from adcore.core.rules import PixelRule
from adcore.vision.images import ChangedError, ImageError, ImageFile, crop_box, image_files
from adcore.vision.masks import MaskFile


def decode(path: Path, rule: str = "") -> np.ndarray:
    return ImageFile(path, rule=rule).decode()


def load(path: Path, resize: int, crop: int) -> np.ndarray:
    return ImageFile(path).load(resize, crop)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(path: Path, rows: list[bytes], width: int, depth: int, colour: int, extra: bytes = b"") -> Path:
    """A PNG by the letter of its specification: filter 0, one IDAT."""
    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def test_grey_is_repeated(tmp_path):
    image = decode(png(tmp_path / "a.png", [bytes([0, 100, 255])], 3, 8, 0))
    assert image.dtype == np.uint8
    assert image.tolist() == [[[0] * 3, [100] * 3, [255] * 3]]


def test_one_bit_grey_is_black_and_white(tmp_path):
    assert decode(png(tmp_path / "a.png", [bytes([0b10100000])], 3, 1, 0))[0, :, 0].tolist() == [255, 0, 255]


def test_rgb_is_unchanged(tmp_path):
    pixels = [[1, 2, 3], [250, 128, 0]]
    assert decode(png(tmp_path / "a.png", [bytes([*pixels[0], *pixels[1]])], 2, 8, 2)).tolist() == [pixels]


def test_palette_is_looked_up_and_its_transparency_is_black(tmp_path):
    palette = chunk(b"PLTE", bytes([9, 8, 7, 200, 100, 50, 255, 255, 255])) + chunk(b"tRNS", bytes([255, 128, 0]))
    image = decode(png(tmp_path / "a.png", [bytes([0, 1, 2])], 3, 8, 3, palette))[0]
    assert image[0].tolist() == [9, 8, 7]
    assert np.abs(image[1] - np.array([200, 100, 50]) * 128 / 255).max() <= 1
    assert image[2].tolist() == [0, 0, 0]


def test_alpha_is_composited_on_black(tmp_path):
    row = bytes([10, 20, 30, 255, 200, 100, 50, 51, 200, 100, 50, 0])
    image = decode(png(tmp_path / "a.png", [row], 3, 8, 6))[0]
    assert image.tolist() == [[10, 20, 30], [40, 20, 10], [0, 0, 0]]


def test_grey_with_alpha(tmp_path):
    image = decode(png(tmp_path / "a.png", [bytes([70, 255, 70, 0])], 2, 8, 4))
    assert image[0].tolist() == [[70] * 3, [0] * 3]


def test_16_bit_png_is_scaled_by_its_full_range(tmp_path):
    values = np.array([0, 257, 128, 129, 32768, 65535], ">u2")
    grey = decode(png(tmp_path / "a.png", [values.tobytes()], 6, 16, 0))[0, :, 0]
    assert grey.tolist() == [0, 1, 0, 1, 128, 255]


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_tiff(tmp_path, order):
    values = np.array([[0, 257 * 7, 65535]], np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values, byteorder=order)
    assert decode(tmp_path / "a.tif")[0, :, 0].tolist() == [0, 7, 255]


def test_16_bit_pgm_which_pillow_widens(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5 2 1 65535\n" + struct.pack(">HH", 257 * 3, 65535))
    assert decode(tmp_path / "a.pgm")[0, :, 0].tolist() == [3, 255]


@pytest.mark.parametrize(("values", "word"), [(np.ones((2, 2), np.float32), "float"), (np.full((2, 2), -5), "32-bit")])
def test_pixels_without_a_known_range_are_refused(tmp_path, values, word):
    tifffile.imwrite(tmp_path / "a.tif", values.astype(np.int32) if values.dtype == int else values)
    with pytest.raises(ImageError, match=word):
        decode(tmp_path / "a.tif")


def test_cmyk(tmp_path):
    ink = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 0, 0, 255], [0, 255, 255, 0]]], np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", ink, photometric="separated")
    assert decode(tmp_path / "a.tif").tolist() == [[[255] * 3, [0, 255, 255], [0] * 3, [255, 0, 0]]]


# where the first pixel of the stored row-major image belongs, by the EXIF specification (row, column of a corner)
CORNERS = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}


@pytest.mark.parametrize("orientation", CORNERS)
def test_exif_orientation(tmp_path, orientation):
    stored = np.zeros((3, 5, 3), np.uint8)
    stored[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    image = decode(tmp_path / "a.png")
    assert image.shape[:2] == ((3, 5) if orientation < 5 else (5, 3))
    assert image[CORNERS[orientation]].tolist() == [255] * 3
    mask = MaskFile(tmp_path / "a.png").whole()
    assert mask.sum() == 1
    assert mask[CORNERS[orientation]]


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0\x00\x10JFIF"])
def test_a_file_that_is_no_image(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageError):
        decode(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.tif", "a.webp"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_truncated_file(tmp_path, name, share):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ImageError):
        decode(tmp_path / name)


def test_a_missing_file(tmp_path):
    with pytest.raises(ImageError, match="missing"):
        decode(tmp_path / "a.png")


def test_load_without_change_of_size_is_the_image(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(load(tmp_path / "a.png", 16, 16), pixels.transpose(2, 0, 1))
    cropped = load(tmp_path / "a.png", 16, 8)
    assert np.array_equal(cropped, pixels[4:12, 4:12].transpose(2, 0, 1))
    assert cropped.flags.c_contiguous


def test_load_averages_when_it_shrinks(tmp_path):
    checkers = np.indices((64, 64)).sum(axis=0) % 2 * 255
    Image.fromarray(checkers.astype(np.uint8)).save(tmp_path / "a.png")
    assert np.abs(load(tmp_path / "a.png", 8, 8)[:, 1:-1, 1:-1].astype(int) - 127).max() <= 2  # aliased: 0 or 255


def test_load_squares_both_sides(tmp_path):
    wide = np.zeros((10, 40, 3), np.uint8)
    wide[:, 20:] = 200
    Image.fromarray(wide).save(tmp_path / "a.png")
    image = load(tmp_path / "a.png", 20, 20)
    assert image.shape == (3, 20, 20)
    assert image[0, :, :9].max() == 0
    assert image[0, :, 11:].min() == 200


def test_crop_box_of_an_image_of_the_network_s_size_is_the_centre():
    assert crop_box(256, 256, 256, 224) == (slice(16, 240), slice(16, 240))
    assert crop_box(1024, 512, 256, 224) == (slice(64, 960), slice(32, 480))
    with pytest.raises(ValueError, match="crop 300"):
        crop_box(10, 10, 256, 300)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 512), st.data())
def test_crop_box_lies_in_the_image_and_has_its_share(height, width, resize, data):
    crop = data.draw(st.integers(1, resize))
    for length, part in zip((height, width), crop_box(height, width, resize, crop), strict=True):
        assert 0 <= part.start < part.stop <= length
        assert abs((part.stop - part.start) - length * crop / resize) <= 1


def test_16_bit_scaled_by_the_white_of_a_camera(tmp_path):
    values = np.array([0, 8, 9, 2048, 4095, 4096, 65535], ">u2")
    png(tmp_path / "a.png", [values.tobytes()], 7, 16, 0)
    assert decode(tmp_path / "a.png", "max=4095")[0, :, 0].tolist() == [0, 0, 1, 128, 255, 255, 255]
    every = np.arange(65536, dtype=">u2").reshape(256, 256)
    png(tmp_path / "b.png", [row.tobytes() for row in every], 256, 16, 0)
    assert np.array_equal(decode(tmp_path / "b.png", "max=65535"), decode(tmp_path / "b.png"))


def test_16_bit_colours_cannot_be_rescaled(tmp_path):
    row = np.array([4095, 2048, 0, 4095, 4095, 4095], ">u2").tobytes()
    png(tmp_path / "a.png", [row], 2, 16, 2)
    assert decode(tmp_path / "a.png").max() == 15
    with pytest.raises(ImageError, match="colours have 16 bits"):
        decode(tmp_path / "a.png", "max=4095")


def test_transparency_can_be_ignored(tmp_path):
    row = bytes([10, 20, 30, 255, 200, 100, 50, 51, 200, 100, 50, 0])
    image = decode(png(tmp_path / "a.png", [row], 3, 8, 6), "alpha=ignore")
    assert image.tolist() == [[[10, 20, 30], [200, 100, 50], [200, 100, 50]]]
    palette = chunk(b"PLTE", bytes([9, 8, 7, 200, 100, 50])) + chunk(b"tRNS", bytes([0, 128]))
    image = decode(png(tmp_path / "b.png", [bytes([0, 1])], 2, 8, 3, palette), "alpha=ignore")
    assert image.tolist() == [[[9, 8, 7], [200, 100, 50]]]
    assert decode(tmp_path / "b.png", "alpha=black")[0, 0].tolist() == [0, 0, 0]


def test_a_rule_s_text_has_what_is_not_default():
    assert PixelRule().text == ""
    assert PixelRule(max=4095, alpha="ignore").text == "max=4095 alpha=ignore"
    assert PixelRule.of("max=4095") == PixelRule(max=4095)


def test_a_file_that_changed_is_refused_by_name(tmp_path):
    path = png(tmp_path / "a.png", [bytes([0, 100])], 2, 8, 0)
    file = ImageFile(path, hashlib.sha256(path.read_bytes()).hexdigest())
    before = file.decode()
    assert before[0, 1, 0] == 100
    png(path, [bytes([0, 101])], 2, 8, 0)
    for read in (file.decode, lambda: file.load(16, 16)):
        with pytest.raises(ChangedError, match=f"{path}: it changed after its data set was prepared"):
            read()


def test_the_content_of_a_file_leads_back_to_it(tmp_path):
    rows = pd.DataFrame({"path": ["a.png", "b.png"], "sha256": ["12", "34"], "pixel_rule": ["", "max=4095"]})
    files = image_files(tmp_path, rows)
    assert [file.content for file in files] == ["12", "34@max=4095"]
    for file in files:
        assert ImageFile.of(file.path, file.content) == file
        assert ImageFile.of(file.path, f"{file.content}#7") == file
