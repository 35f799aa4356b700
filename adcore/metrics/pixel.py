"""Metrics of anomaly maps against defect masks, pooled over all pixels of all images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adcore.metrics.inputs import Bools, map_mask_pairs
from adcore.metrics.pro import area_under_pro, region_of_pixels, region_weights
from adcore.metrics.ranking import Floats, rank, summary


def pixel_metrics(maps: Iterable[ArrayLike], masks: Iterable[ArrayLike], fpr_limit: float = 0.3) -> dict[str, float]:
    """Pixel AUROC, average precision, largest F1 and AUPRO (8-connected regions), exact, in [0, 1].

    maps, masks: (N, H, W) arrays, or any iterables of (H, W) arrays whose sizes may differ; consumed once, and a map is
    compared with its mask as given (resize before). Scores are finite, higher is more anomalous; masks are bool or
    integer, > 0 is anomalous. Normal images are part of the pool, and belong in it.
    Keys `p_auroc`, `p_ap`, `p_f1max`, `aupro`; all NaN when there is no anomalous or no normal pixel.
    ValueError on empty input, on an `fpr_limit` outside (0, 1], and, naming the image, on a shape mismatch, a missing
    map or mask, or a score that is not finite. Memory: 4 bytes a normal pixel (float32 maps) and about 50 an anomalous.
    """
    if not 0 < fpr_limit <= 1:
        raise ValueError(f"fpr_limit is {fpr_limit}: it must be in (0, 1]")
    pool = _PixelPool()
    for scores, mask in map_mask_pairs(maps, masks):
        pool.add(scores, mask)
    return pool.metrics(fpr_limit)


class _PixelPool:
    """Scores of all pixels seen so far, with the defect region of each anomalous one."""

    def __init__(self) -> None:
        self.normal = _Growing(np.float32)
        self.anomalous = _Growing(np.float32)
        self.regions = _Growing(np.int32)
        self.n_regions = 0

    def add(self, scores: Floats, mask: Bools) -> None:
        """Add one image: (H, W) scores and mask."""
        regions = region_of_pixels(mask)
        self.normal.extend(scores[~mask] if regions.size else scores.ravel())
        self.anomalous.extend(scores[mask])
        self.regions.extend(regions + np.int32(self.n_regions))
        self.n_regions += int(regions.max(initial=-1)) + 1

    def metrics(self, fpr_limit: float) -> dict[str, float]:
        """The four metrics; sorts in place, so the pool is done with afterwards."""
        normal, anomalous, regions = self.normal.values, self.anomalous.values, self.regions.values
        normal.sort()
        order = np.argsort(anomalous)
        ranking = rank(normal, anomalous[order])
        if ranking is None:
            return {**summary(None, "p_"), "aupro": float("nan")}
        areas = np.bincount(regions, minlength=self.n_regions)
        weights = region_weights(regions[order], areas)
        del order
        return {**summary(ranking, "p_"), "aupro": area_under_pro(ranking, weights, fpr_limit)}


class _Growing:
    """A 1-d array that grows in place: joining a list of parts at the end would hold every score twice."""

    def __init__(self, dtype: type[np.generic]) -> None:
        self._buffer: NDArray[Any] = np.empty(0, dtype=dtype)
        self._size = 0

    @property
    def values(self) -> NDArray[Any]:
        """What was added, as a view."""
        return self._buffer[: self._size]

    def extend(self, part: NDArray[Any]) -> None:
        """Append a 1-d part, widening the dtype where it is wider."""
        end = self._size + part.size
        wider = np.promote_types(self._buffer.dtype, part.dtype)
        self._buffer = self._buffer.astype(wider, copy=False)
        if end > self._buffer.size:
            self._buffer.resize(end + end // 8, refcheck=False)  # realloc: no second copy of a large buffer
        self._buffer[self._size : end] = part
        self._size = end
