"""Where a synthetic defect may lie: the object, or everywhere on a texture."""

from __future__ import annotations

import numpy as np

from adcore.core.arrays import BoolArray, UInt8Array
from adcore.core.contracts import Threshold

# MemSeg's, for MVTec AD at its full range of grey. The other five classes are textures.
MVTEC_AD = {
    "bottle": Threshold(250, bright=False),
    "cable": Threshold(150, bright=True),
    "capsule": Threshold(120, bright=False),
    "hazelnut": Threshold(50, bright=True),
    "metal_nut": Threshold(40, bright=True),
    "pill": Threshold(100, bright=True),
    "screw": Threshold(110, bright=False),
    "toothbrush": Threshold(30, bright=True),
    "transistor": Threshold(90, bright=False),
    "zipper": Threshold(100, bright=False),
}

_LOGARITHM = np.rint(np.log2(np.arange(1, 257)) / 8 * 255).astype(np.uint8)  # of 1 + a difference, as a grey value


def foreground(image: UInt8Array, texture: bool, threshold: Threshold | None = None) -> BoolArray:
    """The pixels (H, W) of an image (3, H, W) that a defect may lie on: all of a texture.

    Of an object without a known threshold: what differs from the colour of the image's rim by more than Otsu's
    threshold of that difference's logarithm. (Otsu's of the grey value loses a part as bright as the background, and
    without the logarithm a pale part beside a vivid one.)
    """
    if texture:
        return np.ones(image.shape[1:], np.bool_)
    if threshold is not None:
        values = grey(image)
        return values > threshold.grey if threshold.bright else values < threshold.grey
    apart = _LOGARITHM[_from_rim(image)]
    return apart > otsu(apart)


def grey(image: UInt8Array) -> UInt8Array:
    """Luma (H, W) of an image (3, H, W), uint8 (ITU-R BT.601)."""
    red, green, blue = image.astype(np.uint16)
    luma: UInt8Array = ((77 * red + 150 * green + 29 * blue) >> 8).astype(np.uint8)
    return luma


def otsu(values: UInt8Array) -> int:
    """The grey value t that parts `<= t` from `> t` with the largest variance between the two (Otsu 1979)."""
    counts = np.bincount(values.ravel(), minlength=256).astype(np.float64)
    below = counts.cumsum()[:-1]
    above = counts.sum() - below
    moment = (counts * np.arange(256)).cumsum()
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = moment[:-1] / below - (moment[-1] - moment[:-1]) / above
    return int(np.nan_to_num(below * above * apart**2).argmax())


def _from_rim(image: UInt8Array) -> UInt8Array:
    """The largest difference (H, W) of a channel from its median over the outermost 1/32 of the image."""
    width = max(1, min(image.shape[1:]) // 32)
    rim = np.ones(image.shape[1:], np.bool_)
    rim[width:-width, width:-width] = False
    background = np.median(image[:, rim], axis=1).astype(np.int16)
    difference: UInt8Array = np.abs(image - background[:, None, None]).max(axis=0).astype(np.uint8)
    return difference
