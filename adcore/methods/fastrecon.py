"""FastRecon (Fang et al., ICCV 2023): how far each patch is from what few normal images' patches rebuild of it, drawn
towards their mean at its position (docs/papers/fastrecon.md)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from adcore.core import contracts
from adcore.core.contracts import Curves, Maps, Progress, silent

if TYPE_CHECKING:
    import torch

FLOAT, DOUBLE = 4, 8  # bytes


class FastReconOptions(contracts.MethodOptions):
    """`coreset`: share of the patches that rebuild others. `pull`: the paper's lambda, what the mean map weighs beside
    the patch that is rebuilt. `ridge`: what is added to the diagonal of the regression, as a share of its largest
    eigenvalue without `pull`."""

    coreset: Annotated[float, Field(gt=0, le=1)] = 0.01
    pull: Annotated[float, Field(ge=0)] = 2.0
    ridge: Annotated[float, Field(gt=0)] = 1e-6


class FastRecon(contracts.FeatureMethod):
    """A ridge regression from a coreset of the patches, which is held as its singular vectors: with Q the patches of an
    image, M the mean map and S the coreset, W = (Q + pull M) S^T ((1 + pull) S S^T + ridge)^-1 rebuilds Q as W S."""

    name = "fastrecon"
    at_score = ("pull", "ridge")
    Options = FastReconOptions
    options: FastReconOptions
    levels = (2, 3)
    trial: ClassVar[dict[str, Any]] = {"coreset": 0.05}
    mean: torch.Tensor  # (positions, d)
    basis: torch.Tensor  # (r, d), orthonormal rows that span the coreset
    squares: torch.Tensor  # (r,), float64, of the coreset's singular values, descending

    @classmethod
    def state_bytes(cls, options: FastReconOptions, extractor: contracts.Extractor, images: int) -> int:
        """The mean map, and the coreset's singular vectors and values."""
        positions, dims = _size(extractor.shapes())
        rank = min(dims, max(1, int(options.coreset * images * positions)))
        return FLOAT * dims * (positions + rank) + DOUBLE * rank

    def fit(self, features: contracts.FeatureSource, progress: Progress = silent) -> Curves:
        """Reads the features three times: to choose the coreset, to gather it, and for the mean."""
        import torch

        from adcore.kernels.memory import coreset_memory

        def patches() -> Iterator[torch.Tensor]:
            for batch in features:
                yield _embed(batch).flatten(0, 1)

        positions, dims = _size(features.shapes)
        count = len(features) * positions
        support = coreset_memory(patches, count, self.options.coreset, self.context.seed, progress).double()
        _, values, basis = torch.linalg.svd(support, full_matrices=False)
        self.basis, self.squares = basis.float().contiguous(), values.square()
        total = torch.zeros(positions, dims, dtype=torch.float64, device=self.context.device)
        for batch in features:
            total += _embed(batch).double().sum(0)
        self.mean = (total / len(features)).float()
        return {}

    def score(self, features: Maps) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Euclidean distances on the grid of the first level, and the largest of each image."""
        import torch

        patches, pull = _embed(features), self.options.pull
        ridge = self.options.ridge * self.squares[0].clamp(min=torch.finfo(torch.float64).tiny)
        gain = (self.squares / ((1 + pull) * self.squares + ridge)).float()
        rebuilt = ((patches + pull * self.mean) @ self.basis.T * gain) @ self.basis
        distances = torch.linalg.vector_norm(patches - rebuilt, dim=2)
        return distances.reshape(-1, *features[0].shape[2:]), distances.amax(1)

    def state(self) -> dict[str, torch.Tensor]:
        """The mean map and the coreset's singular vectors and values."""
        return {"mean": self.mean, "basis": self.basis, "squares": self.squares}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take back what `state` gave."""
        self.mean, self.basis, self.squares = (
            state[name].to(self.context.device) for name in ("mean", "basis", "squares")
        )


def _embed(maps: Maps) -> torch.Tensor:
    """3 x 3 means, zeros beyond the border counted, each coarse one repeated on the first map's grid:
    (B, positions, d)."""
    import torch
    from torch.nn.functional import avg_pool2d, interpolate

    grid = maps[0].shape[2:]
    parts = [interpolate(avg_pool2d(one, 3, stride=1, padding=1), size=grid, mode="nearest") for one in maps]
    return torch.cat(parts, 1).flatten(2).transpose(1, 2)


def _size(shapes: Sequence[contracts.Shape]) -> tuple[int, int]:
    """Positions of the first map, and channels of all."""
    _, height, width = shapes[0]
    return height * width, sum(channels for channels, _, _ in shapes)
