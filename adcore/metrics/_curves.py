"""ROC and precision-recall curves, thinned for reports."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from adcore.metrics._inputs import labelled_scores
from adcore.metrics._ranking import Floats, Ranking, rank


def curves(scores: ArrayLike, labels: ArrayLike, points: int = 200) -> dict[str, list[float]]:
    """ROC and precision-recall curves of (N,) scores and labels (as `image_metrics` takes), each of <= `points` points.

    Keys `fpr`, `tpr` (from (0, 0) to (1, 1)) and `recall`, `precision` (from (0, 1), to recall 1); every point lies on
    the exact curve. Empty lists when only one class is there. ValueError as `image_metrics`, or if `points` < 2.
    """
    if points < 2:
        raise ValueError(f"points is {points}: a curve needs at least 2")
    ranking = rank(*labelled_scores(scores, labels))
    if ranking is None:
        return {"fpr": [], "tpr": [], "recall": [], "precision": []}
    fpr, tpr = _thin(*_roc(ranking), points)
    recall, precision = _thin(*_precision_recall(ranking), points)
    return {"fpr": fpr, "tpr": tpr, "recall": recall, "precision": precision}


def _roc(ranking: Ranking) -> tuple[Floats, Floats]:
    # Both ends of each tie, since the curve runs level between one anomalous score and the next.
    fp = np.stack([ranking.fp_above, ranking.fp], axis=1)[::-1].ravel()
    tp = np.stack([ranking.tp - ranking.ties, ranking.tp], axis=1)[::-1].ravel()
    fpr, tpr = fp / ranking.n_normal, tp / ranking.n_anomalous
    return np.concatenate([[0.0], fpr, [1.0]]), np.concatenate([[0.0], tpr, [1.0]])


def _precision_recall(ranking: Ranking) -> tuple[Floats, Floats]:
    tp, fp = ranking.tp[::-1], ranking.fp[::-1]
    return np.append(0.0, tp / ranking.n_anomalous), np.append(1.0, tp / (tp + fp))


def _thin(x: Floats, y: Floats, points: int) -> tuple[list[float], list[float]]:
    """At most `points` of the curve's points, evenly along its length, both ends kept."""
    length = np.append(0.0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y))))
    kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], points)))
    return x[kept].tolist(), y[kept].tolist()
