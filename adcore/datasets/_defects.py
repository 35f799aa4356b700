"""Defects of a surface, each from subtle (strength 0) to plain (strength 1). Tune the difficulty with the constants."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from adcore.datasets._drawing import Array, between, blob, direction, line, paint, quantised

# each at strength 0 and at strength 1
SCRATCH_DEPTH = (20.0, 80.0)  # grey levels
SCRATCH_LENGTH = (20.0, 72.0)  # pixels
SCRATCH_WIDTH = (1.0, 2.5)  # pixels
STAIN_OPACITY = (0.18, 0.65)
FOREIGN_OPACITY = (0.3, 0.8)
SPOT_RADIUS = (7.0, 20.0)  # pixels, of all spots
BLUR_RADIUS = (2, 4)  # pixels

# (image, place, random numbers, strength) -> image
Surface = Callable[[Array, Array, np.random.Generator, float], Array]


def scratch(image: Array, place: Array, rng: np.random.Generator, strength: float) -> Array:
    """A thin line, lighter or darker than the surface."""
    heading, step = int(rng.integers(360)), between(*SCRATCH_LENGTH, strength) / 3
    points = [place - 1.5 * step * direction(heading)]
    for bend in rng.integers(-25, 26, 3):
        points.append(points[-1] + step * direction(heading + int(bend)))
    sign = 1 if rng.random() < 0.5 else -1
    depth = sign * between(*SCRATCH_DEPTH, strength)
    return image + depth * line(np.array(points), between(*SCRATCH_WIDTH, strength))[..., None]


def stain(image: Array, place: Array, rng: np.random.Generator, strength: float) -> Array:
    """A dark, oily spot."""
    return _tinted(image, place, rng, strength, (38, 32, 26))


def rust(image: Array, place: Array, rng: np.random.Generator, strength: float) -> Array:
    """A reddish spot."""
    return _tinted(image, place, rng, strength, (122, 66, 34))


def _tinted(
    image: Array, place: Array, rng: np.random.Generator, strength: float, colour: tuple[int, int, int]
) -> Array:
    return paint(image, between(*STAIN_OPACITY, strength) * _spot(place, rng, strength), colour)


def foreign(image: Array, place: Array, rng: np.random.Generator, strength: float) -> Array:
    """Something smooth that does not belong there."""
    return paint(image, between(*FOREIGN_OPACITY, strength) * _spot(place, rng, strength), (158, 122, 74))


def blur(image: Array, place: Array, rng: np.random.Generator, strength: float) -> Array:
    """A spot where the texture is worn away."""
    radius = int(np.rint(between(*BLUR_RADIUS, strength)))
    worn = Image.fromarray(quantised(image)).filter(ImageFilter.BoxBlur(radius))
    return paint(image, _spot(place, rng, strength), np.asarray(worn, dtype=np.float64))


def rotated(image: Array, place: Array, rng: np.random.Generator, strength: float) -> Array:
    """A spot where the texture runs the other way."""
    return paint(image, _spot(place, rng, strength), np.rot90(image))


def _spot(place: Array, rng: np.random.Generator, strength: float) -> Array:
    return blob(rng, place, between(*SPOT_RADIUS, strength))
