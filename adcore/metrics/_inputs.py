"""Scores and labels as they are handed in, checked; every error names the image it is about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adcore.metrics._ranking import Floats

Bools = NDArray[np.bool_]

_END: Any = object()


def as_scores(values: ArrayLike) -> Floats:
    """Floats that hold `values` exactly: float32 where it can, else float64 (a rounded score may become a tie)."""
    array = np.asarray(values)
    return array.astype(np.result_type(array.dtype, np.float32), copy=False)


def as_anomalous(values: ArrayLike, what: str) -> Bools:
    """True where an integer or boolean is > 0; floats must be 0 or 1, else ValueError."""
    array = np.asarray(values)
    if array.dtype.kind not in "biu" and not np.isin(array, (0, 1)).all():
        raise ValueError(f"{what} of dtype {array.dtype} must hold only 0 and 1: threshold it first, as in mask > 0.5")
    return array > 0


def labelled_scores(scores: ArrayLike, labels: ArrayLike) -> tuple[Floats, Floats]:
    """Split (N,) image scores by label into normal and anomalous, each ascending; ValueError on bad input."""
    values, anomalous = as_scores(scores), as_anomalous(labels, "labels")
    if values.ndim != 1 or values.shape != anomalous.shape:
        raise ValueError(f"scores of shape {values.shape} and labels of shape {anomalous.shape} must both be (N,)")
    if not values.size:
        raise ValueError("no images: scores and labels are empty")
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise ValueError(f"the score of image {bad[0]} is {values[bad[0]]}: scores must be finite")
    return np.sort(values[~anomalous]), np.sort(values[anomalous])


def checked_limit(fpr_limit: float) -> None:
    """Raise ValueError unless it is in (0, 1]."""
    if not 0 < fpr_limit <= 1:
        raise ValueError(f"fpr_limit is {fpr_limit}: it must be in (0, 1]")


def map_mask_pairs(maps: Iterable[ArrayLike], masks: Iterable[ArrayLike]) -> Iterator[tuple[Floats, Bools]]:
    """Yield (H, W) scores with their boolean mask, image by image; ValueError on bad or missing images."""
    for index, scores, mask in _pairs(maps, masks):
        anomalous = as_anomalous(mask, f"the mask of image {index}")
        _check_pair(index, scores, anomalous.shape)
        yield scores, anomalous


def map_channel_pairs(
    maps: Iterable[ArrayLike], channels: Iterable[ArrayLike]
) -> Iterator[tuple[Floats, NDArray[np.integer[Any]]]]:
    """Yield (H, W) scores with their regions (C, H, W), image by image; ValueError on bad or missing images."""
    for index, scores, given in _pairs(maps, channels):
        regions = np.asarray(given)
        if regions.ndim != 3 or regions.dtype.kind not in "biu":
            kind = f"shape {regions.shape} and dtype {regions.dtype}"
            raise ValueError(f"the channels of image {index} have {kind}: they must be integers of shape (C, H, W)")
        _check_pair(index, scores, regions.shape[1:])
        yield scores, regions


def _pairs(maps: Iterable[ArrayLike], masks: Iterable[ArrayLike]) -> Iterator[tuple[int, Floats, ArrayLike]]:
    index = -1
    for index, (scores, mask) in enumerate(zip_longest(maps, masks, fillvalue=_END)):
        if scores is _END or mask is _END:
            missing, present = ("map", "mask") if scores is _END else ("mask", "map")
            raise ValueError(f"image {index} has a {present} but no {missing}: pass as many maps as masks")
        yield index, as_scores(scores), mask
    if index < 0:
        raise ValueError("no images: maps and masks are empty")


def _check_pair(index: int, scores: Floats, shape: tuple[int, ...]) -> None:
    if scores.ndim != 2 or not scores.size:
        raise ValueError(f"the map of image {index} has shape {scores.shape}: it must be a non-empty (H, W)")
    if scores.shape != shape:
        raise ValueError(f"image {index} has a map of shape {scores.shape} and a mask of shape {shape}: resize one")
    if not np.isfinite(scores).all():
        raise ValueError(f"the map of image {index} holds NaN or infinite scores")
