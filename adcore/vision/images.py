"""Decoding of images and masks, and the geometry of resize and crop.

Colours: grey is repeated, palettes are looked up, CMYK and YCbCr are converted, transparency is composited on black.
Depth: 16-bit grey is scaled by its full range (v / 257), never by what one image happens to hold, unless a rule says
which value is white. Float and 32-bit images have no known range and are refused.
Orientation: the EXIF tag is applied to images and masks alike. Of a file with several frames, the first is read.

A file is read once: what is decoded are the bytes whose sha256 was asked for.
"""

from __future__ import annotations

import hashlib
import io
import stat
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from adcore.core.arrays import UInt8Array
from adcore.core.names import located, printable
from adcore.core.rules import FULL, PixelRule

if TYPE_CHECKING:
    import pandas as pd

# all that Pillow's decoders are seen to raise on damaged files
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)

# what brings stored pixels upright, by the EXIF tag Orientation (as in ImageOps.exif_transpose)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(Exception):
    """A file cannot be read as an image; the message says why, without the path."""


class ChangedError(ImageError):
    """A file no longer holds what was hashed when its data set was prepared; the message names it."""


@dataclass(frozen=True)
class Picture:
    """A decoded file: the image, upright; the mode it is stored in, with `;16` for colours of 16 bits, of which Pillow
    gives the upper 8; and its EXIF orientation, 1 to 8."""

    image: Image.Image
    mode: str
    orientation: int

    @property
    def has_deep_colours(self) -> bool:
        return self.mode.endswith(";16") and not is_16_bit(self.mode)


@dataclass(frozen=True)
class ImageFile:
    """An image file, what it has to hold (a sha256; "" for whatever there is), and the text of the rule it is read by.

    Every method raises ImageError, which names the file; ChangedError where it holds something else.
    """

    path: Path
    sha256: str = ""
    rule: str = ""

    @classmethod
    def of(cls, path: Path, content: str) -> ImageFile:
        """A file with its content as `content` puts it, or with `#N` behind that for a few-shot version."""
        sha256, _, rule = content.partition("#")[0].partition("@")
        return cls(path, sha256, rule)

    @property
    def content(self) -> str:
        """What decides its pixels: the sha256, and where there is one `@` and the rule."""
        return f"{self.sha256}@{self.rule}" if self.rule else self.sha256

    def decode(self) -> UInt8Array:
        """The image as RGB, (H, W, 3) uint8, upright."""
        try:
            content = file_bytes(self.path)
            require(hashlib.sha256(content).hexdigest(), self.sha256)
            return pixels(read(content), PixelRule.of(self.rule))
        except ImageError as error:
            raise type(error)(printable(f"{self.path}: {error}")) from None

    def load(self, resize: int, crop: int) -> UInt8Array:
        """The image as the network sees it before normalisation: (3, crop, crop) uint8, contiguous.

        Both sides are resized to `resize` (Pillow's bilinear filter with antialiasing; the aspect is not kept, as in
        PatchCore's and PaDiM's published protocols on square images), then the centre is cropped.
        """
        image = Image.fromarray(self.decode()).resize((resize, resize), Image.Resampling.BILINEAR)
        rows, columns = crop_box(resize, resize, resize, crop)
        return np.ascontiguousarray(np.asarray(image)[rows, columns].transpose(2, 0, 1))


def image_files(root: Path, rows: pd.DataFrame) -> list[ImageFile]:
    """The image files of rows of a manifest."""
    columns = zip(rows["path"], rows["sha256"], rows["pixel_rule"], strict=True)
    return [ImageFile(located(root, path), sha256, rule) for path, sha256, rule in columns]


def file_bytes(path: Path) -> bytes:
    """All of a file. Raises ImageError."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            raise ImageError("it is no file")
        return path.read_bytes()
    except FileNotFoundError:
        raise ImageError("the file is missing") from None
    except OSError as error:
        raise ImageError(error.strerror or str(error)) from None


def require(digest: str, sha256: str) -> None:
    """Raise ChangedError unless a digest is the one that was noted ("": none was)."""
    if sha256 and digest != sha256:
        raise ChangedError("it changed after its data set was prepared; run the command again to take it as it is now")


def read(content: bytes, orientation: int | None = None) -> Picture:
    """Decode a file whole, turned as its EXIF tag says, or as `orientation` does where that is given.

    Raises ImageError."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            mode = image.mode + (";16" if _has_deep_colours(image) else "")
            tag = _orientation(image)  # behind the mode, since it may decode the image
            if orientation is None:
                return Picture(ImageOps.exif_transpose(image), mode, tag)
            image.load()
            return Picture(_turned(image, orientation), mode, tag)
    except UnidentifiedImageError:
        raise ImageError("it is no image, or of a format that Pillow does not know") from None
    except Image.DecompressionBombError:
        raise ImageError("it holds more pixels than Pillow takes for safe; cut it into tiles") from None
    except _BROKEN as error:
        raise ImageError(f"it is corrupt: {error}") from error


def _orientation(image: Image.Image) -> int:
    tag = image.getexif().get(ExifTags.Base.Orientation, 1)
    return tag if tag in _TURNS else 1


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def _has_deep_colours(image: Image.Image) -> bool:
    """Whether colours are stored in 16 bits; the raw mode of Pillow's tiles tells."""
    return image.mode in ("RGB", "RGBA", "LA") and any(";16" in str(tile) for tile in getattr(image, "tile", ()))


def pixels(picture: Picture, rule: PixelRule) -> UInt8Array:
    """A decoded file as (H, W, 3) uint8, read by a rule. Raises ImageError where that cannot be done."""
    if rule.max and picture.has_deep_colours:
        raise ImageError("its colours have 16 bits, which `pixels: {max}` cannot rescale; convert it to 8 bits on disk")
    return to_rgb(picture.image, rule)


def to_rgb(image: Image.Image, rule: PixelRule | None = None) -> UInt8Array:
    """An image in any mode as (H, W, 3) uint8. Raises ImageError for a mode without a known range."""
    rule = rule or PixelRule()
    if is_16_bit(image.mode):
        return _from_16_bit(image, rule.max or FULL)
    if image.mode == "F":
        raise ImageError("float pixels have no known range; convert it to 8 or 16 bit")
    try:
        if image.has_transparency_data:
            layer = image.convert("RGBA")
            if rule.alpha == "ignore":
                return np.array(layer)[..., :3].copy()
            image = Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer)
        return np.array(image.convert("RGB"))
    except ValueError:
        raise ImageError(f"mode {image.mode} cannot be converted to RGB") from None


def is_16_bit(mode: str) -> bool:
    """Whether a mode is that of grey values of 16 bits (Pillow widens some such files to 32)."""
    return mode == "I" or mode.startswith("I;16")


def _from_16_bit(image: Image.Image, white: int) -> UInt8Array:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > FULL:
        raise ImageError("32-bit pixels have no known range; convert it to 8 or 16 bit")
    grey = ((255 * values.clip(max=white) + white // 2) // white).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


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
