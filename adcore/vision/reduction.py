"""Masks at the network's resolution: by nearest neighbour, as the published protocols do, or by area."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from adcore.core.arrays import BoolArray
from adcore.metrics._pro import EIGHT_CONNECTED
from adcore.vision.images import crop_box


def reduced(mask: BoolArray, resize: int, crop: int, how: Literal["nearest", "area"]) -> BoolArray:
    """A mask (H, W) at the network's resolution, (crop, crop): resized to `resize`, then cropped.

    By nearest neighbour; but a mask of which no pixel is left so, although the crop shows some of it, by area.
    """
    small = _nearest(mask, resize, crop)
    if how == "area" or (not small.any() and mask[view(mask, resize, crop)].any()):
        return _by_area(mask, resize, crop)
    return small


def lost(mask: BoolArray, resize: int, crop: int) -> tuple[int, int]:
    """How many of the 8-connected regions of a mask nearest neighbour leaves no pixel of, and how many there are in
    what the network sees."""
    labels, _ = ndimage.label(mask, EIGHT_CONNECTED)
    visible = set(np.unique(labels[view(mask, resize, crop)])) - {0}
    kept = set(np.unique(_nearest(labels.astype(np.int32), resize, crop)))
    return len(visible - kept), len(visible)


def view(mask: BoolArray, resize: int, crop: int) -> tuple[slice, slice]:
    """The part of a mask (H, W) that the network sees, in the mask's own pixels."""
    height, width = mask.shape
    return crop_box(height, width, resize, crop)


def _nearest(values: npt.NDArray[Any], resize: int, crop: int) -> npt.NDArray[Any]:
    small = Image.fromarray(values.astype(np.int32)).resize((resize, resize), Image.Resampling.NEAREST)
    window: npt.NDArray[Any] = np.asarray(small)[crop_box(resize, resize, resize, crop)]
    return window.astype(values.dtype)


def _by_area(mask: BoolArray, resize: int, crop: int) -> BoolArray:
    """Each region by itself: the pixels of which it covers at least half as much as of the one that it covers most.

    So a region that fills a pixel marks what it covers by half, and none that is seen is lost."""
    window = crop_box(resize, resize, resize, crop)[0]
    rows, columns = (_overlap(side, resize)[window] for side in mask.shape)
    small = np.zeros((crop, crop), bool)
    labels, _ = ndimage.label(mask, EIGHT_CONNECTED)
    for number, (down, across) in enumerate(ndimage.find_objects(labels), start=1):
        covered = rows[:, down] @ (labels[down, across] == number) @ columns[:, across].T
        most = covered.max()
        if most > 0:
            small |= covered >= most * (0.5 - 1e-9)
    return small


@lru_cache(maxsize=64)
def _overlap(source: int, target: int) -> npt.NDArray[np.float64]:
    """The matrix (target, source) of which share of a pixel of one axis lies in a pixel of the other's."""
    step = source / target
    edges = np.arange(target + 1) * step
    starts = np.arange(source)
    inside: npt.NDArray[np.float64] = np.minimum(edges[1:, None], starts + 1) - np.maximum(edges[:-1, None], starts)
    return np.clip(inside, 0, None) / step
