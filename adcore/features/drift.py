"""How far a training moves the features that methods live on, and the bound at which it stops."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch.nn import functional

from adcore.core.contracts import Maps

COMPARED = 32  # training images whose features are compared
LOW_LEVEL = 3  # the first maps: what hosts read, and what the bound is about
COSINE = "cosine_"  # and the map's number from 1


class Drift:
    """Watches a training (see `adcore.core.training.Watch`): features of some images now, beside the original ones.

    before: their maps without the enhancer. features: as they are now. least: the mean cosine similarity that no
    low-level map may fall below. Maps that have become longer are compared in their first channels.
    """

    def __init__(self, before: Maps, features: Callable[[], Maps], least: float) -> None:
        self.before, self.features, self.least = before, features, least
        self.stopped = ""

    def values(self) -> dict[str, float]:
        """`cosine_1`, `cosine_2`, ...: mean over images and positions, by map."""
        return cosines(self.before, self.features())

    def refuses(self, values: Mapping[str, float], epoch: int, epochs: int) -> bool:
        """Whether an epoch (from 1) left the bound; `stopped` then says so."""
        low = {f"map {n}": values[f"{COSINE}{n}"] for n in range(1, LOW_LEVEL + 1) if f"{COSINE}{n}" in values}
        name = min(low, key=lambda n: low[n])
        if low[name] >= self.least:
            return False
        self.stopped = (
            f"stopped after {epoch - 1} of {epochs} epochs: in the next one the features of {name} moved to a mean "
            f"cosine of {low[name]:.2f} with the original, below least_cosine {self.least:g}; lower the learning rate"
        )
        return True


def cosines(before: Maps, after: Maps) -> dict[str, float]:
    """Mean cosine similarity over images and positions, by map from 1; of longer maps the first channels count."""
    pairs = enumerate(zip(before, after, strict=True), start=1)
    return {
        f"{COSINE}{n}": float(functional.cosine_similarity(a, b[:, : a.shape[1]], dim=1).mean()) for n, (a, b) in pairs
    }


def norm_ratios(before: Maps, after: Maps) -> dict[str, float]:
    """How much larger the maps have become, from 1; of longer maps the first channels count."""
    pairs = enumerate(zip(before, after, strict=True), start=1)
    return {f"norm_ratio_{n}": float(b[:, : a.shape[1]].norm() / a.norm()) for n, (a, b) in pairs}
