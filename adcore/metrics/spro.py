"""Saturated per-region overlap: the metric of MVTec LOCO AD, where finding a part of a region may be enough."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adcore.core.columns import Column
from adcore.metrics._growing import Growing
from adcore.metrics._inputs import checked_limit
from adcore.metrics._normals import Normals
from adcore.metrics._pixel import Pixels
from adcore.metrics._pro import area_under_pro
from adcore.metrics._ranking import Floats, rank_parts
from adcore.metrics.base import Config, Metric, Reader, Regions

FPR_LIMIT = 0.05


class _Saturation(NamedTuple):
    threshold: float
    relative: bool

    def area(self, area: int) -> float:
        """How many pixels of a region of that area have to be found."""
        return max(1, int(self.threshold * area) if self.relative else min(self.threshold, area))


class SaturatedRanking(Reader[Pixels]):
    """Scores of the pixels that count towards the saturation of a region, and of all normal ones."""

    sees = Regions

    def __init__(self, images: Regions) -> None:
        super().__init__(images)
        config = images.config
        self.known = None if config is None else {int(entry["pixel_value"]): _of(entry) for entry in config}
        self.normal = Normals((lambda: _normal(images)) if images.repeatable else None)
        self.best, self.weights = Growing(np.float32), Growing(np.float64)
        self.regions = self.count = 0

    def add(self, scores: Floats, truth: NDArray[Any]) -> None:
        self.normal.extend(scores[~truth.any(axis=0)])
        for number, part in enumerate(truth):
            best, weight = _counting(scores, part, self.known, f"region {number} of image {self.count}")
            self.best.extend(best)
            self.weights.extend(weight)
        self.regions += len(truth)
        self.count += 1

    def result(self) -> Pixels | None:
        """Sorts in place, so it is to be asked for once."""
        order = np.argsort(self.best.values)
        ranking = rank_parts(self.normal.parts(), self.best.values[order])
        return None if ranking is None else Pixels(ranking, self.weights.values[order] / self.regions)


class Spro(Metric[Pixels]):
    """See docs/metrics.md."""

    column = Column(
        "spro",
        "AU-sPRO",
        "area under the saturated per-region overlap curve up to a false positive rate of 0.05, divided by that limit; "
        "of data sets that say what saturates a region, as MVTec LOCO AD",
        shown=("leaderboard", "statistics"),
        order=80,
    )
    rules: ClassVar[Mapping[str, Any]] = {"spro_fpr_limit": FPR_LIMIT}
    reads = SaturatedRanking

    def value(self, read: Pixels) -> float:
        return area_under_pro(read.ranking, read.weights, FPR_LIMIT)


def spro(
    maps: Iterable[ArrayLike], channels: Iterable[ArrayLike], config: Config | None, fpr_limit: float = FPR_LIMIT
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
    read = SaturatedRanking.read(Regions(maps, channels, config))
    return math.nan if read is None else area_under_pro(read.ranking, read.weights, fpr_limit)


def _normal(images: Regions) -> Iterator[Floats]:
    for scores, parts in images:
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
