"""Decoding of images and masks, and the geometry of resize and crop.

Colours: grey is repeated, palettes are looked up, CMYK and YCbCr are converted, transparency is composited on black.
Depth: 16-bit grey is scaled by its full range (v / 257), never by what one image happens to hold; so a 12-bit camera
that stores 0..4095 must be rescaled once, on disk. Float and 32-bit images have no known range and are refused.
Orientation: the EXIF tag is applied to images and masks alike. Of a file with several frames, the first is read.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

UInt8Array = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]

# all that Pillow's decoders are seen to raise on damaged files
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)


class ImageError(Exception):
    """A file cannot be read as an image; the message says why, without the path."""


def read(path: Path) -> tuple[Image.Image, str]:
    """Read and decode a file whole: the image, turned as its EXIF tag says, and the mode that it is stored in.

    Raises ImageError.
    """
    try:
        with Image.open(path) as image:
            mode = image.mode
            return ImageOps.exif_transpose(image), mode
    except FileNotFoundError:
        raise ImageError("the file is missing") from None
    except UnidentifiedImageError:
        raise ImageError("it is no image, or of a format that Pillow does not know") from None
    except Image.DecompressionBombError:
        raise ImageError("it holds more pixels than Pillow takes for safe; cut it into tiles") from None
    except _BROKEN as error:
        raise ImageError(f"it is corrupt: {error}") from error


def to_rgb(image: Image.Image) -> UInt8Array:
    """An image in any mode as (H, W, 3) uint8. Raises ImageError for a mode without a known range."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _from_16_bit(image)
    if image.mode == "F":
        raise ImageError("float pixels have no known range; convert it to 8 or 16 bit")
    try:
        if image.has_transparency_data:
            layer = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer)
        return np.array(image.convert("RGB"))
    except ValueError:
        raise ImageError(f"mode {image.mode} cannot be converted to RGB") from None


def _from_16_bit(image: Image.Image) -> UInt8Array:
    values = np.asarray(image).astype(np.int64)  # Pillow widens some 16-bit files to 32 bit (mode I)
    if values.min() < 0 or values.max() > 65535:
        raise ImageError("32-bit pixels have no known range; convert it to 8 or 16 bit")
    grey = ((values + 128) // 257).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def decode(path: Path) -> UInt8Array:
    """Decode an image file to RGB, (H, W, 3) uint8, upright. Raises ImageError."""
    return to_rgb(read(path)[0])


def load(path: Path, resize: int, crop: int) -> UInt8Array:
    """An image as the network sees it before normalisation: (3, crop, crop) uint8, contiguous.

    Both sides are resized to `resize` (Pillow's bilinear filter with antialiasing; the aspect is not kept, as in
    PatchCore's and PaDiM's published protocols on square images), then the centre is cropped.
    """
    image = Image.fromarray(decode(path)).resize((resize, resize), Image.Resampling.BILINEAR)
    rows, columns = crop_box(resize, resize, resize, crop)
    return np.ascontiguousarray(np.asarray(image)[rows, columns].transpose(2, 0, 1))


def crop_box(height: int, width: int, resize: int, crop: int) -> tuple[slice, slice]:
    """The window (rows, columns) of an image of height x width that the network sees, in that image's own pixels."""
    if not 0 < crop <= resize:
        raise ValueError(f"image: crop {crop} must lie between 1 and resize {resize}")
    offset = (resize - crop) // 2
    return _span(height, offset, resize, crop), _span(width, offset, resize, crop)


def _span(length: int, offset: int, resize: int, crop: int) -> slice:
    start, stop = ((2 * at * length + resize) // (2 * resize) for at in (offset, offset + crop))  # rounded, half up
    return slice(start, max(stop, start + 1))


def mask_values(image: Image.Image) -> npt.NDArray[Any]:
    """The grey values (H, W) of a mask in any mode, unscaled, so that 0/1 stays 0/1 at any depth."""
    if len(image.getbands()) == 1 and image.mode != "P" and not image.has_transparency_data:
        return np.asarray(image)
    values: UInt8Array = to_rgb(image).max(axis=2)
    return values
