"""Normals counted above each distinct anomalous score: all that AUROC, AP, F1max and AUPRO need.

Recall, and so every one of these metrics, moves only at the score of an anomalous sample. Sorting the normal scores and
binary-searching the few anomalous ones in them therefore replaces the usual argsort of all samples.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Counts = NDArray[np.intp]


@dataclass(frozen=True)
class Ranking:
    """Counts at the K distinct anomalous scores, ascending; "detected" means score >= that score.

    starts: (K,) index of each distinct score's first sample among the ascending anomalous scores.
    fp_above, fp: (K,) normal samples scoring strictly above it, and at or above it (they differ where a tie is).
    """

    n_normal: int
    n_anomalous: int
    starts: Counts
    fp_above: Counts
    fp: Counts

    @property
    def tp(self) -> Counts:
        """(K,) anomalous samples scoring at or above each distinct score."""
        return self.n_anomalous - self.starts

    @property
    def ties(self) -> Counts:
        """(K,) anomalous samples at each distinct score."""
        return np.diff(self.starts, append=self.n_anomalous)


def rank(normal: Floats, anomalous: Floats) -> Ranking | None:
    """Rank (n,) normal against (p,) anomalous scores, both finite, ascending, of one dtype; None if either is empty."""
    return rank_parts([normal], anomalous)


def rank_parts(parts: Iterable[Floats], anomalous: Floats) -> Ranking | None:
    """As `rank`, of normal scores that come in parts, each ascending; one part at a time is looked at."""
    if not anomalous.size:
        return None
    is_start = np.ones(anomalous.size, dtype=bool)
    np.not_equal(anomalous[1:], anomalous[:-1], out=is_start[1:])
    starts = np.flatnonzero(is_start)
    distinct = anomalous[starts]
    n_normal, fp_above, fp = 0, np.zeros(distinct.size, np.intp), np.zeros(distinct.size, np.intp)
    for part in parts:
        n_normal += part.size
        fp_above += part.size
        fp_above -= np.searchsorted(part, distinct, side="right")
        fp += part.size
        fp -= np.searchsorted(part, distinct, side="left")
    return Ranking(n_normal, anomalous.size, starts, fp_above, fp) if n_normal else None


def auroc(ranking: Ranking) -> float:
    """Probability that an anomalous sample outscores a normal one, ties counting 1/2 (Mann-Whitney U / np)."""
    beaten = ranking.n_normal - (ranking.fp_above + ranking.fp) / 2
    return float(ranking.ties @ beaten / (ranking.n_normal * ranking.n_anomalous))


def average_precision(ranking: Ranking) -> float:
    """Sum of (R_k - R_{k-1}) P_k over the distinct thresholds, without interpolation."""
    precision = ranking.tp / (ranking.tp + ranking.fp)
    return float(ranking.ties @ precision / ranking.n_anomalous)


def f1_max(ranking: Ranking) -> float:
    """Largest F1 over all thresholds: an oracle, since the threshold is chosen on the test set.

    A threshold between two anomalous scores detects no more than the one above it and raises more false alarms, so only
    anomalous scores are tried.
    """
    return float(np.max(2 * ranking.tp / (ranking.tp + ranking.fp + ranking.n_anomalous)))


def summary(ranking: Ranking | None, prefix: str) -> dict[str, float]:
    """The three ranking metrics under keys PREFIXauroc, PREFIXap, PREFIXf1max; NaN where a class is missing."""
    metrics = {"auroc": auroc, "ap": average_precision, "f1max": f1_max}
    return {prefix + name: metric(ranking) if ranking else float("nan") for name, metric in metrics.items()}
