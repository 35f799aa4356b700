"""Metrics of anomaly maps against defect masks, pooled over all pixels of all images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import ArrayLike

from adcore.metrics.growing import Growing
from adcore.metrics.inputs import Bools, checked_limit, map_mask_pairs
from adcore.metrics.normals import Normals, once
from adcore.metrics.pro import area_under_pro, region_of_pixels, region_weights
from adcore.metrics.ranking import Floats, rank_parts, summary


def pixel_metrics(maps: Iterable[ArrayLike], masks: Iterable[ArrayLike], fpr_limit: float = 0.3) -> dict[str, float]:
    """Pixel AUROC, average precision, largest F1 and AUPRO (8-connected regions), exact, in [0, 1].

    maps, masks: (N, H, W) arrays, or any iterables of (H, W) arrays whose sizes may differ; a map is compared with its
    mask as given (resize before). Scores are finite, higher is more anomalous; masks are bool or
    integer, > 0 is anomalous. Normal images are part of the pool, and belong in it.
    Keys `p_auroc`, `p_ap`, `p_f1max`, `aupro`; all NaN when there is no anomalous or no normal pixel.
    ValueError on empty input, on an `fpr_limit` outside (0, 1], and, naming the image, on a shape mismatch, a missing
    map or mask, or a score that is not finite. Memory: about 50 bytes an anomalous pixel, and 4 bytes
    (float32 maps) for each of at most 2^27 normal pixels: when there are more, they are gone through a second time.
    Of iterators, which can be gone through only once, all normal pixels are kept.
    """
    checked_limit(fpr_limit)
    pool = _PixelPool(Normals(None if once(maps, masks) else lambda: _normal(maps, masks)))
    for scores, mask in map_mask_pairs(maps, masks):
        pool.add(scores, mask)
    return pool.metrics(fpr_limit)


def _normal(maps: Iterable[ArrayLike], masks: Iterable[ArrayLike]) -> Iterator[Floats]:
    for scores, mask in map_mask_pairs(maps, masks):
        yield scores[~mask]


class _PixelPool:
    """Scores of all pixels seen so far, with the defect region of each anomalous one."""

    def __init__(self, normal: Normals) -> None:
        self.normal = normal
        self.anomalous = Growing(np.float32)
        self.regions = Growing(np.int32)
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
        anomalous, regions = self.anomalous.values, self.regions.values
        order = np.argsort(anomalous)
        ranking = rank_parts(self.normal.parts(), anomalous[order])
        if ranking is None:
            return {**summary(None, "p_"), "aupro": float("nan")}
        areas = np.bincount(regions, minlength=self.n_regions)
        weights = region_weights(regions[order], areas)
        del order
        return {**summary(ranking, "p_"), "aupro": area_under_pro(ranking, weights, fpr_limit)}
