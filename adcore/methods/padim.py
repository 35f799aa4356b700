"""PaDiM (Defard et al. 2021): one Gaussian of patch features per position (docs/papers/hosts.md#padim)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import PositiveInt

from adcore.core import contracts
from adcore.core.contracts import Curves, Progress, silent

if TYPE_CHECKING:
    import torch

EPSILON = 0.01
FLOAT = 4  # bytes
PAPER_FEATURES = {1792: 550, 448: 100}  # channels of Wide ResNet-50-2 and of ResNet-18


class PaDiMOptions(contracts.MethodOptions):
    """`n_features`: channels drawn at random; None takes the paper's 550 (Wide ResNet-50-2) or 100 (ResNet-18), and
    100, or all where there are fewer, with any other backbone."""

    n_features: PositiveInt | Literal["all"] | None = None


class PaDiM(contracts.FeatureMethod):
    """Mahalanobis distance of each position's features, upsampled to the finest grid, to that position's Gaussian."""

    name = "padim"
    Options = PaDiMOptions
    options: PaDiMOptions
    channels: torch.Tensor
    mean: torch.Tensor
    whitener: torch.Tensor

    @classmethod
    def state_bytes(cls, options: PaDiMOptions, extractor: contracts.Extractor, images: int) -> int:
        """A mean and a triangle for each position of the finest grid."""
        return gaussian_bytes(extractor.shapes(), options.n_features)

    def fit(self, features: contracts.FeatureSource, progress: Progress = silent) -> Curves:
        """Reads the features once for each block of positions that fits in a quarter of the memory budget.

        Of one image the distances are Euclidean. Raises ValueError with fewer channels than `n_features`.
        """
        import torch

        from adcore.kernels import gaussian

        _, height, width = features.shapes[0]
        self.channels = _draw(sum(c for c, _, _ in features.shapes), self.options.n_features, self.context.seed)
        positions = height * width
        rows = max(1, int(self.context.memory_gb * 2**28 / (4 * len(features) * len(self.channels))))
        self.mean = torch.empty(positions, len(self.channels), device=self.context.device)
        self.whitener = torch.empty(positions, len(self.channels), len(self.channels), device=self.context.device)
        for begin in range(0, positions, rows):
            part = slice(begin, begin + rows)
            samples = torch.empty(len(features), len(self.mean[part]), len(self.channels), device=self.context.device)
            filled = 0
            for batch in features:
                block = self._embed(batch)[:, part]
                samples[filled : filled + len(block)] = block
                filled += len(block)
            self.mean[part], self.whitener[part] = gaussian.fit(samples, EPSILON)
            progress(min(1.0, (begin + rows) / positions))
        return {}

    def score(self, features: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Mahalanobis distances on the finest grid; the image score is the maximum of the smoothed map."""
        from adcore.kernels import gaussian

        distances = gaussian.mahalanobis(self._embed(features), self.mean, self.whitener)
        return distances.reshape(-1, *features[0].shape[2:]), None

    def state(self) -> dict[str, torch.Tensor]:
        """The channels drawn, the means and the whiteners' lower triangles."""
        from adcore.kernels import gaussian

        return {"channels": self.channels, "mean": self.mean, "whitener": gaussian.pack(self.whitener)}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take back what `state` gave."""
        from adcore.kernels import gaussian

        device = self.context.device
        self.channels = state["channels"]
        self.mean = state["mean"].to(device)
        self.whitener = gaussian.unpack(state["whitener"].to(device))

    def _embed(self, layers: list[torch.Tensor]) -> torch.Tensor:
        """The drawn channels of all layers on the finest grid: (B, positions, n_features)."""
        import torch
        from torch.nn.functional import interpolate

        grid = layers[0].shape[2:]
        parts = []
        first = 0
        for layer in layers:
            own = self.channels[(self.channels >= first) & (self.channels < first + layer.shape[1])] - first
            first += layer.shape[1]
            if len(own):
                parts.append(interpolate(layer[:, own.to(layer.device)], size=grid, mode="nearest"))
        return torch.cat(parts, 1).flatten(2).transpose(1, 2)


def gaussian_bytes(shapes: Sequence[contracts.Shape], kept: int | Literal["all"] | None) -> int:
    """A mean and a triangle for each position of the finest grid; `kept` as the option n_features."""
    _, height, width = shapes[0]
    count = _count(sum(c for c, _, _ in shapes), kept)
    return FLOAT * height * width * (count + count * (count + 1) // 2)


def _draw(total: int, wanted: int | Literal["all"] | None, seed: int) -> torch.Tensor:
    """The channels kept, ascending."""
    import torch

    count = _count(total, wanted)
    return torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:count].sort().values


def _count(total: int, wanted: int | Literal["all"] | None) -> int:
    """How many of the channels are kept."""
    if wanted is None:
        return PAPER_FEATURES.get(total, min(100, total))
    if wanted == "all":
        return total
    if wanted > total:
        raise ValueError(f"padim: n_features is {wanted}, but the layers have {total} channels; lower it or say 'all'")
    return wanted
