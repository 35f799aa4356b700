"""Synthetic defects: another texture, or the image itself deformed, seen through Perlin blobs (MemSeg: Yang 2022)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from adcore.core.arrays import BoolArray, UInt8Array
from adcore.core.contracts import Photograph, Threshold
from adcore.vision.foreground import foreground, grey
from adcore.vision.jigsaw import shuffle_tiles
from adcore.vision.perlin import perlin_mask
from adcore.vision.pictures import from_picture, shift_hue, to_picture

REDRAWS = 10  # of a mask that misses the object
SMALLEST = 0.0005  # share of the image: 25 pixels at 224, little more than one position at stride 4
TEXTURE_SHARE = 0.5  # of the defects; the others are the image itself, deformed
DELTA = (0.15, 1)  # opacity of a defect
STEPS = 3  # deformations of one image
GRID = 8  # tiles a side that the deformed image is shuffled in
CHROMA = 30  # how far the channels of a computed texture's colours differ, standard deviation in grey values


class Synthesiser:
    """Draws defects on the images of one category.

    `texture`: the category is a texture, so that a defect may lie anywhere. `sources` are image files to take textures
    from: other categories' images or a library such as DTD; a share `procedural` of the textures is computed noise
    instead, and all are where there are no sources. `threshold` finds the object; default: Otsu's.
    """

    def __init__(
        self,
        texture: bool,
        sources: Sequence[Photograph] = (),
        procedural: float = 0.5,
        threshold: Threshold | None = None,
    ) -> None:
        self.texture = texture
        self.sources = sources
        self.procedural = procedural if sources else 1.0
        self.threshold = threshold

    def __call__(self, image: UInt8Array, rng: np.random.Generator) -> tuple[UInt8Array, BoolArray]:
        """The image (3, H, W) with a defect, and its mask (H, W); an empty mask says that it is returned as it was.

        Raises ImageError for a source that cannot be read.
        """
        mask = self._mask(image, rng)
        if not mask.any():
            return image.copy(), mask
        source = self._texture(image, rng) if rng.random() < TEXTURE_SHARE else deformed(image, rng)
        return blend(image, source, mask, rng.uniform(*DELTA)), mask

    def _mask(self, image: UInt8Array, rng: np.random.Generator) -> BoolArray:
        here = foreground(image, self.texture, self.threshold)
        for _ in range(1 + REDRAWS):
            mask = perlin_mask(here.shape, rng) & here
            if mask.mean() >= SMALLEST:
                return mask
        return np.zeros_like(here)

    def _texture(self, image: UInt8Array, rng: np.random.Generator) -> UInt8Array:
        shape = image.shape[1], image.shape[2]
        if rng.random() < self.procedural:
            texture = procedural(shape, rng)
        else:
            file = self.sources[int(rng.integers(len(self.sources)))]
            texture = _crop(_source(file, max(shape)), shape, rng)
        if (image == image[0]).all():  # on grey images, colour would give every defect away
            return np.repeat(grey(texture)[None], 3, axis=0)
        return texture


def blend(image: UInt8Array, source: UInt8Array, mask: BoolArray, delta: float) -> UInt8Array:
    """(1 - M) I + M (delta * source + (1 - delta) I), rounded: equal to the image (3, H, W) outside the mask (H, W)."""
    out = image.copy()
    under = image[:, mask].astype(np.float32)
    out[:, mask] = np.rint(under + np.float32(delta) * (source[:, mask] - under))
    return out


@functools.lru_cache(maxsize=256)  # 50 MB at 256 pixels; a source is wanted every epoch, and decoding takes longest
def _source(file: Photograph, side: int) -> UInt8Array:
    return file.load(side, side)


def _crop(source: UInt8Array, shape: tuple[int, int], rng: np.random.Generator) -> UInt8Array:
    """A random square of at least half the side of the source, resized to the shape."""
    side = source.shape[1]
    size = side * rng.uniform(0.5, 1)
    left, top = rng.uniform(0, side - size, 2)
    box = (left, top, left + size, top + size)
    return from_picture(to_picture(source).resize((shape[1], shape[0]), Image.Resampling.BILINEAR, box=box))


def procedural(shape: tuple[int, int], rng: np.random.Generator) -> UInt8Array:
    """A texture (3, H, W) without a source: noise of a random power spectrum, stretched and turned, in two colours."""
    height, width = shape
    angle, stretch = rng.uniform(0, math.pi), math.exp(rng.uniform(0, math.log(8)))
    exponent, bands = rng.uniform(1, 2.5), rng.uniform(1, 6)
    y, x = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    squared = (along**2 + (stretch * across) ** 2 + 1e-4).astype(np.float32)
    parts = rng.standard_normal((2, *squared.shape), np.float32)
    field = np.fft.irfft2((parts[0] + 1j * parts[1]) * squared ** np.float32(-exponent / 2), shape)
    share = 0.5 + 0.5 * np.sin(field * (bands / field.std()), dtype=np.float32)
    colours = rng.uniform(0, 255, (2, 1, 1, 1)) + rng.normal(0, CHROMA, (2, 3, 1, 1))
    first, second = colours.clip(0, 255).astype(np.float32)
    texture: UInt8Array = np.rint(first + share * (second - first)).astype(np.uint8)
    return texture


def deformed(image: UInt8Array, rng: np.random.Generator) -> UInt8Array:
    """The image (3, H, W) after 3 of 10 random operations, its 8 x 8 tiles shuffled."""
    picture = to_picture(image)
    for index in rng.choice(len(_OPERATIONS), STEPS, replace=False):
        picture = _OPERATIONS[index](picture, rng)
    _, height, width = image.shape
    margin = ((0, 0), (0, -height % GRID), (0, -width % GRID))
    whole = np.pad(from_picture(picture), margin, mode="symmetric")
    return shuffle_tiles(whole, rng.permutation(GRID * GRID))[:, :height, :width]


def _gamma(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    curve = 255 * np.linspace(0, 1, 256) ** rng.uniform(0.5, 2)
    return picture.point(np.rint(curve).astype(int).tolist() * 3)


def _brightness(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    curve = np.arange(256) * rng.uniform(0.8, 1.2) + rng.uniform(-30, 30)
    return picture.point(np.rint(curve.clip(0, 255)).astype(int).tolist() * 3)


def _hue_and_saturation(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    hue, saturation = rng.uniform(-50, 50, 2) / 255
    return ImageEnhance.Color(shift_hue(picture, hue)).enhance(1 + saturation)


def _rotate(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """By up to 45 degrees; the corners are mirrored, since black ones would be defects of their own."""
    width, height = picture.size
    margin = math.ceil(0.21 * max(width, height))  # (sqrt(2) - 1) / 2, by which a turned square stands out
    pixels = np.pad(np.asarray(picture), ((margin, margin), (margin, margin), (0, 0)), mode="symmetric")
    turned = Image.fromarray(pixels).rotate(rng.uniform(-45, 45), Image.Resampling.BILINEAR)
    return turned.crop((margin, margin, margin + width, margin + height))


# the ranges of MemSeg's code
_OPERATIONS: Sequence[Callable[[Image.Image, np.random.Generator], Image.Image]] = (
    _gamma,
    _brightness,
    lambda picture, rng: ImageEnhance.Sharpness(picture).enhance(rng.uniform(0.1, 1.9)),
    _hue_and_saturation,
    lambda picture, rng: ImageOps.solarize(picture, int(rng.integers(32, 129))),
    lambda picture, rng: ImageOps.posterize(picture, int(rng.integers(1, 8))),
    lambda picture, rng: ImageOps.invert(picture),
    lambda picture, rng: ImageOps.autocontrast(picture),
    lambda picture, rng: ImageOps.equalize(picture),
    _rotate,
)
