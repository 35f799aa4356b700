"""What normal images that a model has not seen promise of its alarms: conformal p-values and thresholds.

Of n such images and one more normal image, each is as likely as the others to have the k-th largest score, so that it
passes the k-th largest of the n with a probability of at most k / (n + 1) (Vovk, Gammerman and Shafer, "Algorithmic
Learning in a Random World", 2005; Bates et al., "Testing for outliers with conformal p-values", Ann. Stat. 2023)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
ALARMS = 0.01  # wanted share of false alarms, where a plan says nothing of it and a verdict is asked for
TINY = 1e-9  # so that 0.05 of 20 is 1


def p_values(scores: npt.ArrayLike, normal: npt.ArrayLike) -> Floats:
    """Of every score (m,), the share of it and the n normal scores that are no smaller: (m,), from 1 / (n + 1) to 1."""
    ascending = np.sort(np.asarray(normal, dtype=np.float64))
    below = np.searchsorted(ascending, np.asarray(scores, dtype=np.float64), side="left")
    return np.asarray((1 + len(ascending) - below) / (1 + len(ascending)), dtype=np.float64)


@dataclass(frozen=True)
class Threshold:
    """A score above which an image, or a pixel's map, is told as defective.

    promised: the share of normal images that it is passed by at most. It is 1 / (n + 1) where less is wanted than n
    normal images can promise."""

    value: float
    promised: float

    @classmethod
    def of(cls, normal: npt.ArrayLike, alarms: float) -> Threshold:
        """That of a wanted share of false alarms in (0, 1). Raises ValueError for no normal score, or no such share."""
        scores = np.sort(np.asarray(normal, dtype=np.float64))[::-1]
        if not len(scores) or not 0 < alarms < 1:
            raise ValueError(
                f"a threshold takes normal images and a share between 0 and 1, not {len(scores)}, {alarms}"
            )
        allowed = min(max(1, math.floor(alarms * (len(scores) + 1) + TINY)), len(scores))
        return cls(float(scores[allowed - 1]), allowed / (len(scores) + 1))


@dataclass(frozen=True)
class Calibration:
    """Of normal images that their models have not seen: image scores (n,), and the largest value of each one's smoothed
    map (n,), both float64."""

    scores: Floats
    peaks: Floats

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True)
class Alarms:
    """A wanted share of false alarms, what so many unseen normal images promise of it, and what became of that on test
    images.

    image: threshold of image scores. map: that of smoothed maps, above which some pixel of a normal image is as seldom.
    good, bad: test images without and with a defect; false_alarms and misses: those of them on the wrong side."""

    wanted: float
    normals: int
    image: Threshold
    map: Threshold
    false_alarms: int
    good: int
    misses: int
    bad: int

    @classmethod
    def of(cls, calibration: Calibration, wanted: float, scores: npt.ArrayLike, labels: npt.ArrayLike) -> Alarms:
        """labels (m,): 1 for defective. Raises ValueError as `Threshold.of`."""
        image, peak = (Threshold.of(each, wanted) for each in (calibration.scores, calibration.peaks))
        told, bad = np.asarray(scores, dtype=np.float64) > image.value, np.asarray(labels).astype(bool)
        false, missed = int((told & ~bad).sum()), int((~told & bad).sum())
        return cls(wanted, len(calibration), image, peak, false, int((~bad).sum()), missed, int(bad.sum()))


def drift(p_values_passed: npt.ArrayLike, normals: int, promised: float) -> float:
    """The probability that so many of the p-values (m,) of parts that passed lie low in their range by chance, as where
    parts score higher than they did; 1 where there are too few normal images to tell.

    Exact while parts are like the n normal images: of new scores below the k-th largest of n, those above the j-th are
    beta-binomially many, with j - k and n + 1 - j, since the n cut the unit of probability into n + 1 exchangeable
    parts. A test against one half would take a chance of those n for a drift.

    One-sided, since in cross-fitting the n are scored by models of fewer images: good parts then score lower than they
    without any drift, which makes this test only more careful, and would make a two-sided one tell a drift for ever."""
    from scipy.stats import betabinom

    allowed = round(promised * (normals + 1))
    upper = (normals + 1 - allowed) // 2
    values = np.asarray(p_values_passed, dtype=np.float64)
    if upper < 1 or not len(values):
        return 1.0
    above = int((values <= (allowed + upper) / (normals + 1) + TINY).sum())
    law = betabinom(len(values), upper, normals + 1 - allowed - upper)
    return float(min(1.0, law.sf(above - 1)))
