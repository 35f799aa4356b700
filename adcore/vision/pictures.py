"""Arrays (3, H, W) as Pillow's pictures and back, and the one colour operation that Pillow lacks."""

from __future__ import annotations

import numpy as np
from PIL import Image

from adcore.core.arrays import UInt8Array


def to_picture(image: UInt8Array) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))


def from_picture(picture: Image.Image) -> UInt8Array:
    return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))


def shift_hue(picture: Image.Image, turns: float) -> Image.Image:
    """An RGB picture with its hues moved by a share of the colour circle; greys stay as they are."""
    hue, saturation, value = picture.convert("HSV").split()
    shift = round(turns * 256)
    turned = hue.point([(level + shift) % 256 for level in range(256)])
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")
