"""The ranking of image scores, and the metrics of it."""

from __future__ import annotations

from numpy.typing import ArrayLike

from adcore.metrics._inputs import labelled_scores
from adcore.metrics._ranking import Ranking, rank, summary
from adcore.metrics.base import Reader, Scored


class ImageRanking(Reader[Ranking]):
    """Normal images counted above each distinct score of an anomalous one."""

    sees = Scored
    images: Scored

    def result(self) -> Ranking | None:
        return rank(*labelled_scores(self.images.scores, self.images.labels))


def image_metrics(scores: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """Image AUROC, average precision and largest F1, exact, in [0, 1].

    scores: (N,) finite, higher is more anomalous. labels: (N,) bool or integer, > 0 is anomalous.
    Keys `i_auroc`, `i_ap`, `i_f1max`; all NaN when only one class is there.
    ValueError on empty input, unequal lengths, or a score that is not finite (it names the image).
    """
    return summary(rank(*labelled_scores(scores, labels)), "i_")
