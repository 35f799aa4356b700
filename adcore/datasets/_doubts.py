"""What is odd about a file that can be read all the same: phrases for the manifest, each with its mend."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from adcore.core.arrays import BoolArray, UInt8Array
from adcore.core.rules import FULL, MaskRule, PixelRule
from adcore.vision.images import Picture, is_16_bit
from adcore.vision.masks import marked

TURNED = (
    "turned by EXIF, its mask is not: if masks are drawn on the photograph before that turn, write `masks: {frame: "
    "stored}` in the data set's entry, else `{frame: upright}`"
)
OPAQUE, LEAST_OPAQUE = 250, 0.05  # alpha of a pixel that counts as opaque; their share below which a picture is hidden
BLACK, BRIGHT = 15, 0.001  # of 255, and the share of values above it that a picture has that is not nearly black
FULL_MASK = 0.5  # share of an image that a defect rarely covers
DEPTHS = (8, 10, 12, 14)  # bits of cameras whose values are stored in 16
DIM = 2 ** DEPTHS[-1]  # values of a 16-bit file below which its camera has fewer bits


def highest(image: Image.Image) -> int:
    """The largest value of an image of 16-bit grey; 0 for others."""
    return int(np.asarray(image).max()) if is_16_bit(image.mode) else 0


def of_image(picture: Picture, rgb: UInt8Array, rule: PixelRule) -> str:
    """Why an image as it is read, (H, W, 3), is not what its photographer saw; "" where nothing speaks for that."""
    image = picture.image
    if rule.alpha is None and image.has_transparency_data:
        share = (np.asarray(image.convert("RGBA").getchannel("A")) >= OPAQUE).mean()
        if share < LEAST_OPAQUE:
            mend = "`pixels: {alpha: ignore}` in the data set's entry reads its colours alone"
            return f"hidden by transparency: {share:.0%} of it is opaque, and it is read on black; {mend}"
    if (rgb == rgb[0, 0]).all():
        return "one colour: all of its pixels are the same"
    dim = 0 < highest(image) < DIM and rule.max is None  # told of the whole category, with its highest value
    if not dim and (rgb > BLACK).mean() < BRIGHT:
        return f"nearly black: {1 - BRIGHT:.1%} of its values are {BLACK} of 255 or less{_black_mend(picture)}"
    return ""


def _black_mend(picture: Picture) -> str:
    mend = "; its colours have 16 bits: if its camera has fewer, rescale it once, on disk"
    return mend if picture.has_deep_colours else ""


def dim(rows: pd.DataFrame) -> str:
    """That the 16-bit images of a category use little of their range; "" where they do not, or the plan names white."""
    deep = rows[rows["highest"] > 0]
    values = int(deep["highest"].max()) if len(deep) else DIM
    if values >= DIM or PixelRule.of(deep["pixel_rule"].iloc[0]).max:
        return ""
    bits = next(bits for bits in DEPTHS if values < 2**bits)
    return (
        f"{len(deep)} images of 16 bits, the first {deep['path'].iloc[0]}, hold values up to {values}, as a camera of "
        f"{bits} bits gives them, and are read nearly black; `pixels: {{max: {2**bits - 1}}}` in the data set's entry "
        "mends that"
    )


def cut(rows: pd.DataFrame) -> str:
    """That images of a category hold values above the one that the plan takes for white; "" for none."""
    white = PixelRule.of(rows["pixel_rule"].iloc[0]).max or FULL
    above = rows[rows["highest"] > white]
    if above.empty:
        return ""
    return (
        f"{len(above)} images, the first {above['path'].iloc[0]}, hold values up to {above['highest'].max()}: all "
        f"above the {white} of `pixels: {{max}}` are white"
    )


def of_mask(picture: Picture, mask: BoolArray, rule: MaskRule) -> str:
    """Why a mask may not mean what it marks; "" where nothing speaks for that."""
    share, other = mask.mean(), _other_channel(picture, rule)
    if share == 0:
        return f"`masks: {{channel: {other}}}` in the data set's entry reads the mask there" if other else ""
    if share <= FULL_MASK:
        return ""
    mends = [] if rule.inverted or share == 1 else ["`masks: {inverted: true}` reads it the other way round"]
    mends += [f"`masks: {{channel: {other}}}` reads the mask there"] if other else []
    return "; ".join([f"marks nearly everything: its mask covers {share:.0%} of it", *mends])


def _other_channel(picture: Picture, rule: MaskRule) -> str:
    """Where else in the file a mask may be that marks some of it: `alpha`, `index` or ""."""
    image = picture.image
    if rule.channel is None and image.mode == "P" and _some(np.asarray(image) > 0):
        return "index"
    if rule.channel is None and image.has_transparency_data and _some(_alpha(image) > 0):
        return "alpha"
    return ""


def _alpha(image: Image.Image) -> npt.NDArray[np.uint8]:
    return np.asarray(image.convert("RGBA").getchannel("A"))


def _some(mask: npt.NDArray[np.bool_]) -> bool:
    return bool(mask.any() and not mask.all())


def binary_mend(values: npt.NDArray[Any]) -> str:
    """What reads a mask of several values (H, W); "" where nothing would."""
    if marked(values, MaskRule(threshold=0.5)).any():
        return "; `masks: {threshold: 0.5}` in the data set's entry reads soft edges and masks stored with losses"
    mend = "; `masks: {threshold: 0}` in the data set's entry takes every value above 0 for a defect"
    return mend if values.min() == 0 else ""
