"""Saturated per-region overlap: the metric of MVTec LOCO AD, where finding a part of a region may be enough."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adcore.metrics.growing import Growing
from adcore.metrics.inputs import checked_limit, map_channel_pairs
from adcore.metrics.normals import Normals, once
from adcore.metrics.pro import area_under_pro
from adcore.metrics.ranking import Floats, rank_parts

Config = Sequence[Mapping[str, Any]]


class _Saturation(NamedTuple):
    threshold: float
    relative: bool

    def area(self, area: int) -> float:
        """How many pixels of a region of that area have to be found."""
        return max(1, int(self.threshold * area) if self.relative else min(self.threshold, area))


def spro(
    maps: Iterable[ArrayLike], channels: Iterable[ArrayLike], config: Config | None, fpr_limit: float = 0.05
) -> float:
    """Area under sPRO against FPR from 0 to `fpr_limit`, divided by `fpr_limit`; exact, in [0, 1].

    maps: any iterable of (H, W) scores, higher is more anomalous.
    channels: for each image its defect regions, integers (C, H, W), each 0 outside and one value inside; C is 0 for a
    normal image. A region may be several blobs, and regions may overlap.
    config: what `defects_config.json` of MVTec LOCO AD holds: a mapping for each `pixel_value`, with its
    `saturation_threshold` and whether that is `relative_saturation`. A region of area A saturates at int(threshold A)
    pixels, or at min(threshold, A) where it is not relative; without a config, at A.
    sPRO at a threshold is the mean over all regions of min(pixels found / saturation, 1); a pixel is normal where it is
    in no region (Bergmann et al., Beyond Dents and Scratches, IJCV 2022). NaN without regions or without normal pixels.
    ValueError on empty input, on an `fpr_limit` outside (0, 1], and, naming the image, on a bad map or region.
    Memory: about 60 bytes a pixel that counts towards a saturation, and the normal pixels as in `pixel_metrics`.
    """
    checked_limit(fpr_limit)
    known = None if config is None else {int(entry["pixel_value"]): _of(entry) for entry in config}
    normal = Normals(None if once(maps, channels) else lambda: _normal(maps, channels))
    found, weights = Growing(np.float32), Growing(np.float64)
    regions = 0
    for index, (scores, parts) in enumerate(map_channel_pairs(maps, channels)):
        normal.extend(scores[~parts.any(axis=0)])
        for number, part in enumerate(parts):
            best, weight = _counting(scores, part, known, f"region {number} of image {index}")
            found.extend(best)
            weights.extend(weight)
        regions += len(parts)
    order = np.argsort(found.values)
    ranking = rank_parts(normal.parts(), found.values[order])
    if ranking is None:
        return math.nan
    return area_under_pro(ranking, weights.values[order] / regions, fpr_limit)


def _normal(maps: Iterable[ArrayLike], channels: Iterable[ArrayLike]) -> Iterator[Floats]:
    for scores, parts in map_channel_pairs(maps, channels):
        yield scores[~parts.any(axis=0)]


def _of(entry: Mapping[str, Any]) -> _Saturation:
    return _Saturation(float(entry["saturation_threshold"]), bool(entry["relative_saturation"]))


def _counting(
    scores: Floats, part: NDArray[np.integer[Any]], known: Mapping[int, _Saturation] | None, what: str
) -> tuple[Floats, Floats]:
    """The highest scores of a region, as many as saturate it, and what each adds to its overlap once found.

    min(found / saturation, 1) grows with every pixel until the saturation and not after: the pixels beyond weigh
    nothing, and where ties straddle it, their weights still sum to what is missing.
    """
    inside = part > 0
    values = np.unique(part[inside])
    if values.size != 1:
        raise ValueError(f"{what} holds {values.size} values above 0: it must be one, the same on all of the region")
    area, value = int(inside.sum()), int(values[0])
    if known is not None and value not in known:
        raise ValueError(f"{what} has the value {value}, which the config does not explain")
    saturation = float(area) if known is None else known[value].area(area)
    best = np.sort(scores[inside])[::-1][: math.ceil(saturation)]
    return best, np.minimum(saturation - np.arange(best.size), 1) / saturation
