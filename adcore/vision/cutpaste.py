"""CutPaste and its scar (Li 2021): a piece of an image, its colours jittered, pasted elsewhere on the image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageEnhance

from adcore.core.arrays import BoolArray, UInt8Array
from adcore.vision.pictures import from_picture, shift_hue, to_picture

AREA = (0.02, 0.15)  # of the image
SMALLEST_ASPECT = 0.3  # and its inverse
JITTER = 0.1
SCAR_WIDTH, SCAR_LENGTH = (2, 16), (10, 25)  # pixels of an image of 256
SCAR_DEGREES = 45


def cutpaste(image: UInt8Array, rng: np.random.Generator, turns: int = 0) -> tuple[UInt8Array, BoolArray]:
    """The image (3, S, S) with a jittered rectangle of it pasted at random, and where (S, S).

    The rectangle has 0.02 to 0.15 of the area, and an aspect log-uniform in 0.3..1 or its inverse; it is turned by
    `turns` quarters between cutting and pasting.
    """
    _, height, width = image.shape
    area = rng.uniform(*AREA) * height * width
    aspect = math.exp(rng.uniform(math.log(SMALLEST_ASPECT), 0)) ** rng.choice((-1, 1))
    size = min(round(math.sqrt(area / aspect)), height), min(round(math.sqrt(area * aspect)), width)
    piece = np.rot90(from_picture(_jittered(_cut(image, size, rng), rng)), turns, (1, 2))
    return _paste(image, piece, np.ones(piece.shape[1:], np.bool_), rng)


def scar(image: UInt8Array, rng: np.random.Generator) -> tuple[UInt8Array, BoolArray]:
    """The image (3, H, W) with a thin jittered strip of it pasted at random, and where (H, W).

    At 256 pixels a side the strip is 2 to 16 wide and 10 to 25 long, turned by up to 45 degrees either way.
    """
    scale = min(image.shape[1:]) / 256
    length, width = (max(1, round(rng.uniform(*limits) * scale)) for limits in (SCAR_LENGTH, SCAR_WIDTH))
    strip = _jittered(_cut(image, (length, width), rng), rng)
    degrees = rng.uniform(-SCAR_DEGREES, SCAR_DEGREES)
    turned = strip.rotate(degrees, Image.Resampling.BILINEAR, expand=True)
    inside = Image.new("L", strip.size, 1).rotate(degrees, Image.Resampling.BILINEAR, expand=True)
    return _paste(image, from_picture(turned), np.asarray(inside) > 0, rng)


def _cut(image: UInt8Array, size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    top, left = _corner(image, size, rng)
    return to_picture(image[:, top : top + size[0], left : left + size[1]])


def _jittered(piece: Image.Image, rng: np.random.Generator) -> Image.Image:
    """As torchvision's ColorJitter(0.1, 0.1, 0.1, 0.1), in random order."""
    brightness, contrast, saturation = rng.uniform(1 - JITTER, 1 + JITTER, 3)
    hue = rng.uniform(-JITTER, JITTER)
    steps: Sequence[Callable[[Image.Image], Image.Image]] = (
        lambda picture: ImageEnhance.Brightness(picture).enhance(brightness),
        lambda picture: ImageEnhance.Contrast(picture).enhance(contrast),
        lambda picture: ImageEnhance.Color(picture).enhance(saturation),
        lambda picture: shift_hue(picture, hue),
    )
    for index in rng.permutation(len(steps)):
        piece = steps[index](piece)
    return piece


def _paste(
    image: UInt8Array, piece: UInt8Array, inside: BoolArray, rng: np.random.Generator
) -> tuple[UInt8Array, BoolArray]:
    top, left = _corner(image, inside.shape, rng)
    window = slice(top, top + inside.shape[0]), slice(left, left + inside.shape[1])
    out, mask = image.copy(), np.zeros(image.shape[1:], np.bool_)
    out[:, *window] = np.where(inside, piece, image[:, *window])
    mask[window] = inside
    return out, mask


def _corner(image: UInt8Array, size: tuple[int, ...], rng: np.random.Generator) -> tuple[int, int]:
    height, width = image.shape[1] - size[0], image.shape[2] - size[1]
    return int(rng.integers(height + 1)), int(rng.integers(width + 1))
