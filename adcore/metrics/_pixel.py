"""The ranking of all pixels of all test images with their defect regions, and the metrics of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adcore.metrics._growing import Growing
from adcore.metrics._inputs import checked_limit
from adcore.metrics._normals import Normals
from adcore.metrics._pro import area_under_pro, region_of_pixels, region_weights
from adcore.metrics._ranking import Floats, Ranking, rank_parts, summary
from adcore.metrics.base import Masked, Reader


class Pixels(NamedTuple):
    """ranking: of anomalous pixels among normal ones. weights: (P,) what each anomalous pixel, by ascending score, adds
    to the mean overlap of regions (PRO) once detected; they sum to 1."""

    ranking: Ranking
    weights: Floats


class PixelRanking(Reader[Pixels]):
    """Scores of all pixels, with the defect region of each anomalous one."""

    sees = Masked

    def __init__(self, images: Masked) -> None:
        super().__init__(images)
        self.normal = Normals((lambda: _normal(images)) if images.repeatable else None)
        self.anomalous = Growing(np.float32)
        self.regions = Growing(np.int32)
        self.n_regions = 0

    def add(self, scores: Floats, truth: NDArray[Any]) -> None:
        regions = region_of_pixels(truth)
        self.normal.extend(scores[~truth] if regions.size else scores.ravel())
        self.anomalous.extend(scores[truth])
        self.regions.extend(regions + np.int32(self.n_regions))
        self.n_regions += int(regions.max(initial=-1)) + 1

    def result(self) -> Pixels | None:
        """Sorts in place, so it is to be asked for once."""
        anomalous, regions = self.anomalous.values, self.regions.values
        order = np.argsort(anomalous)
        ranking = rank_parts(self.normal.parts(), anomalous[order])
        if ranking is None:
            return None
        areas = np.bincount(regions, minlength=self.n_regions)
        return Pixels(ranking, region_weights(regions[order], areas))


def _normal(images: Masked) -> Iterator[Floats]:
    for scores, mask in images:
        yield scores[~mask]


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
    read = PixelRanking.read(Masked(maps, masks))
    if read is None:
        return {**summary(None, "p_"), "aupro": float("nan")}
    return {**summary(read.ranking, "p_"), "aupro": area_under_pro(read.ranking, read.weights, fpr_limit)}
