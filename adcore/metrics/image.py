"""Metrics of image scores against image labels."""

from __future__ import annotations

from numpy.typing import ArrayLike

from adcore.metrics.inputs import labelled_scores
from adcore.metrics.ranking import rank, summary


def image_metrics(scores: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """Image AUROC, average precision and largest F1, exact, in [0, 1].

    scores: (N,) finite, higher is more anomalous. labels: (N,) bool or integer, > 0 is anomalous.
    Keys `i_auroc`, `i_ap`, `i_f1max`; all NaN when only one class is there.
    ValueError on empty input, unequal lengths, or a score that is not finite (it names the image).
    """
    return summary(rank(*labelled_scores(scores, labels)), "i_")
