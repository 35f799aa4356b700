"""Per-region overlap: defect regions of a mask, and the area under the PRO curve in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adcore.metrics._inputs import Bools
from adcore.metrics._ranking import Counts, Floats, Ranking

EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)


def region_of_pixels(mask: Bools) -> NDArray[np.int32]:
    """(P,) region number, from 0, of each True pixel of an (H, W) mask in row-major order; regions are 8-connected."""
    if not mask.any():
        return np.empty(0, dtype=np.int32)
    from scipy import ndimage  # slow to import, and plans and reports only read what a metric is called

    # Defects are small: labelling their bounding box alone is much faster.
    box = mask[_extent(mask.any(axis=1)), _extent(mask.any(axis=0))]
    labels = np.empty(box.shape, dtype=np.int32)
    ndimage.label(box, structure=EIGHT_CONNECTED, output=labels)
    numbers: NDArray[np.int32] = labels[box] - np.int32(1)
    return numbers


def _extent(occupied: ArrayLike) -> slice:
    first, last = np.flatnonzero(occupied)[[0, -1]]
    return slice(int(first), int(last) + 1)


def region_weights(regions: NDArray[np.signedinteger[Any]], areas: Counts) -> Floats:
    """(P,) weight 1 / (K |region|) of each pixel, by its region number and the K areas; PRO sums those detected."""
    weights: Floats = (1.0 / (areas.size * areas))[regions]
    return weights


def area_under_pro(ranking: Ranking, weights: Floats, fpr_limit: float) -> float:
    """Area under PRO against FPR from 0 to `fpr_limit` by trapezoids, divided by `fpr_limit`; in [0, 1].

    weights: (P,) what each anomalous pixel, by ascending score, adds to the PRO once detected; they sum to 1.
    A pixel is a step of its weight at its FPR, or a ramp between the FPR just before and after where normal pixels tie
    with it, so the area to the limit is known pixel by pixel, with no curve and no thresholds (PRO: Bergmann et al.,
    The MVTec Anomaly Detection Dataset, IJCV 2021).
    """
    before, after = ranking.fp_above / ranking.n_normal, ranking.fp / ranking.n_normal
    area = np.maximum(fpr_limit - (before + after) / 2, 0)
    straddles = (before < fpr_limit) & (fpr_limit < after)
    low, high = before[straddles], after[straddles]
    area[straddles] = (fpr_limit - low) ** 2 / (2 * (high - low))
    return float(np.add.reduceat(weights, ranking.starts) @ area / fpr_limit)
