"""Few normal images become many: rotations and flips of a support image (docs/papers/agpnet.md#few-shot)."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from adcore.core.arrays import UInt8Array
from adcore.vision.pictures import from_picture, to_picture

ROTATIONS = 16  # steps of 22.5 degrees
VARIANTS = 2 * ROTATIONS  # each rotation, and its mirror image


def variant(image: UInt8Array, number: int) -> UInt8Array:
    """One of the 32 versions of an image (3, H, W), uint8: number 0 is the image, odd ones are mirrored left to right.

    `number // 2` steps of 22.5 degrees about the centre, bilinear; the corners are filled by the image, reflected at
    its border. Quarter turns of a square are exact.
    """
    step, mirrored = divmod(number, 2)
    turned = _turned(image, 360 * step / ROTATIONS) if step else image
    return np.ascontiguousarray(turned[:, :, ::-1] if mirrored else turned)


def variants(image: UInt8Array) -> UInt8Array:
    """All 32 versions of an image (3, H, W), uint8: (32, 3, H, W)."""
    return np.stack([variant(image, number) for number in range(VARIANTS)])


def _turned(image: UInt8Array, degrees: float) -> UInt8Array:
    _, height, width = image.shape
    margin = math.ceil((math.hypot(height, width) - min(height, width)) / 2) + 1
    padded = np.pad(image, ((0, 0), (margin, margin), (margin, margin)), mode="reflect")
    whole = from_picture(to_picture(padded).rotate(degrees, Image.Resampling.BILINEAR))
    return whole[:, margin : margin + height, margin : margin + width]
