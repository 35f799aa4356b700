"""Drawing that gives the same bits on every x86-64 machine: seeded integers, correctly rounded arithmetic and Pillow.

No transcendental function is called on an array, since its last bits depend on the vector unit; angles are whole
degrees, looked up in a table of six decimals.
"""

from __future__ import annotations

import hashlib
import io
import math
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

SIZE = 128  # pixels a side
_FINE = 4  # shapes are drawn at so many times the size, then averaged

Array = npt.NDArray[np.float64]
Points = Array  # (n, 2): x and y in pixels

_COS = [round(math.cos(math.radians(degree)), 6) for degree in range(360)]


def generator(*names: object) -> np.random.Generator:
    """Random numbers that depend on the names alone."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))


def between(low: float, high: float, share: float) -> float:
    return low + (high - low) * share


def direction(degrees: int) -> Array:
    return np.array([_COS[degrees % 360], _COS[(degrees - 90) % 360]])


def around(centre: Array, radii: Sequence[float], start: int) -> Points:
    """The corners of a star-shaped polygon: one radius for each of evenly spaced directions."""
    step = 360 // len(radii)
    return np.array([centre + radius * direction(start + step * i) for i, radius in enumerate(radii)])


def turned(points: Points, degrees: int, centre: Array) -> Points:
    """Rotate about the origin, then move to the centre."""
    (cos, sin), (x, y) = direction(degrees), points.T
    return np.stack([x * cos - y * sin, x * sin + y * cos], axis=1) + centre


def filled(points: Points) -> Array:
    """How much of each pixel a polygon covers, (SIZE, SIZE) in 0..1."""
    canvas = Image.new("L", (SIZE * _FINE, SIZE * _FINE))
    ImageDraw.Draw(canvas).polygon([_fine(point) for point in points], fill=255)
    return np.asarray(canvas.reduce(_FINE)) / 255


def line(points: Points, width: float) -> Array:
    """How much of each pixel a polyline covers, (SIZE, SIZE) in 0..1."""
    canvas = Image.new("L", (SIZE * _FINE, SIZE * _FINE))
    ImageDraw.Draw(canvas).line([_fine(point) for point in points], 255, int(width * _FINE), "curve")
    return np.asarray(canvas.reduce(_FINE)) / 255


def disc(centre: Array, radius: float) -> Array:
    return filled(around(centre, [radius] * 72, 0))


def _fine(point: Array) -> tuple[int, int]:
    return int(np.rint(point[0] * _FINE)), int(np.rint(point[1] * _FINE))


def soft(cover: Array, radius: int) -> Array:
    """A cover with blurred edges."""
    image = Image.fromarray(np.rint(cover * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.BoxBlur(radius)).filter(ImageFilter.BoxBlur(radius))) / 255


def blob(rng: np.random.Generator, centre: Array, radius: float) -> Array:
    """An irregular spot."""
    radii = [radius * (0.6 + 0.4 * float(share)) for share in rng.random(12)]
    return soft(filled(around(centre, radii, int(rng.integers(360)))), 1)


def clouds(rng: np.random.Generator, cell: int) -> Array:
    """Smooth noise in 0..1 with features of `cell` pixels."""
    coarse = rng.integers(0, 256, (SIZE // cell + 2,) * 2).astype(np.uint8)
    wide = Image.fromarray(coarse).resize((SIZE + 2 * cell,) * 2, Image.Resampling.BICUBIC)
    return np.asarray(wide)[cell : cell + SIZE, cell : cell + SIZE] / 255


def grain(rng: np.random.Generator, amplitude: int) -> Array:
    """The noise of a sensor: bell-shaped, within +-2 amplitude, the same in all channels."""
    noise: Array = rng.integers(-amplitude, amplitude + 1, (2, SIZE, SIZE)).sum(axis=0)[..., None].astype(np.float64)
    return noise


def paint(image: Array, cover: Array, colour: Sequence[float] | Array) -> Array:
    """Lay a colour, or another image, over an image (SIZE, SIZE, 3)."""
    return image + cover[..., None] * (np.asarray(colour, dtype=np.float64) - image)


def quantised(image: Array) -> npt.NDArray[np.uint8]:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Encode as PNG. Run lengths only: zlib's search for longer matches may differ from processor to processor."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=6, compress_type=zlib.Z_RLE)
    return stream.getvalue()
