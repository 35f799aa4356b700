"""How far the image metrics of a cell would move with other test images: bootstrap draws, and DeLong's deviations."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

DRAWN = ("i_auroc", "i_ap", "i_f1max")  # metrics whose draws are computed, all at once
DRAWS = 1000


@dataclass(frozen=True)
class Sample:
    """What two contenders need to be compared on the same images; all NaN where an image class is missing.

    images: digest of paths, labels and subsets. draws: (3, DRAWS) float32, DRAWN of each drawn set of images, which
    are the same sets for all scores of the same images. deviations: (N,) float64, by path; the covariance of the
    AUROCs of two contenders is the dot product of theirs."""

    images: str
    draws: NDArray[np.float32]
    deviations: Floats


def sample(images: pd.DataFrame) -> Sample:
    """Sample of a cell. images: columns path, label (> 0 is anomalous), subset and score (finite), a row an image.

    Named subsets are scored apart with the images of no subset, and averaged, as the metrics of a cell are. Images are
    drawn with replacement within label and subset."""
    rows = sorted(zip(*(images[name].tolist() for name in ("path", "label", "subset", "score")), strict=True))
    who = hashlib.sha256(json.dumps([row[:3] for row in rows]).encode()).hexdigest()
    labels = np.array([label > 0 for _, label, _, _ in rows])
    subsets = np.array([subset for _, _, subset, _ in rows])
    names = sorted(set(subsets.tolist()) - {""})
    parts = [np.isin(subsets, ["", name]) for name in names] or [np.ones(len(rows), dtype=bool)]
    if any(labels[part].all() or not labels[part].any() for part in parts):
        return Sample(who, np.full((len(DRAWN), DRAWS), np.nan, np.float32), np.full(len(rows), np.nan))
    scores = np.array([score for *_, score in rows], dtype=np.float64)
    strata = (2 * np.unique(subsets, return_inverse=True)[1] + labels).astype(np.int16)
    weights = _weights(strata.tobytes(), int(who[:16], 16))
    drawn = [_drawn(scores[part], labels[part], weights[:, part]) for part in parts]
    credit = np.zeros(len(rows))
    for part in parts:
        credit[part] += _credit(scores[part], labels[part]) / len(parts)
    mean: Floats = sum(drawn, np.zeros_like(drawn[0])) / len(parts)
    return Sample(who, mean.astype(np.float32), _deviations(credit, strata))


def _credit(scores: Floats, labels: Bools) -> Floats:
    """(N,) what each image adds to the AUROC: of either class, the credits sum to it (ties count half).

    DeLong's placements over the size of their class (DeLong et al. 1988), by sorting, as Sun and Xu (2014) do."""
    found = np.empty(len(scores))
    for side in (True, False):
        own, other = scores[labels == side], np.sort(scores[labels != side])
        below, upto = (np.searchsorted(other, own, side) for side in ("left", "right"))
        share = (below + upto) / (2 * other.size)
        found[labels == side] = (share if side else 1 - share) / own.size
    return found


def _deviations(credit: Floats, strata: NDArray[np.int16]) -> Floats:
    """Deviations from the mean of the stratum, scaled to sum of squares = unbiased variance of the AUROC."""
    found = np.full(len(credit), np.nan)
    for stratum in np.unique(strata):
        own = strata == stratum
        if (count := int(own.sum())) < 2:
            return np.full(len(credit), np.nan)  # one image says nothing of how others would differ
        found[own] = (credit[own] - credit[own].mean()) * math.sqrt(count / (count - 1))
    return found


def _drawn(scores: Floats, labels: Bools, weights: NDArray[np.float32]) -> Floats:
    """(3, DRAWS) DRAWN where image i counts weights[draw, i] times; thresholds are the distinct scores."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=np.nan) != 0)
    detected = weights[:, order]
    found = np.cumsum(detected, axis=1)[:, ends]
    true = np.cumsum(detected * labels[order], axis=1)[:, ends]
    anomalous, normal = labels.sum(), (~labels).sum()
    gained = np.diff(true, axis=1, prepend=np.float32(0))
    alarms = np.diff(found, axis=1, prepend=np.float32(0)) - gained
    area = np.einsum("ij,ij->i", true - gained / 2, alarms, dtype=np.float64) / (anomalous * normal)
    precision = np.einsum("ij,ij->i", gained, true / np.maximum(found, 1), dtype=np.float64) / anomalous
    return np.stack([area, precision, np.max(2 * true / (found + anomalous), axis=1)])


@lru_cache(maxsize=2)  # all contenders of a category follow one another
def _weights(strata: bytes, seed: int) -> NDArray[np.float32]:
    """(DRAWS, N) how often each image is drawn, with replacement within its stratum."""
    codes, generator = np.frombuffer(strata, dtype=np.int16), np.random.default_rng(seed)
    weights = np.empty((DRAWS, len(codes)), dtype=np.float32)
    for stratum in np.unique(codes):
        own = codes == stratum
        count = int(own.sum())
        drawn = generator.integers(0, count, (DRAWS, count)) + np.arange(DRAWS)[:, None] * count
        weights[:, own] = np.bincount(drawn.ravel(), minlength=DRAWS * count).reshape(DRAWS, count)
    return weights
