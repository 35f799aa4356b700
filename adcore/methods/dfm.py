"""DFM (Ahuja et al. 2019): what the principal components of an image's deep features do not explain, or how unlikely
its coordinates along them are (docs/papers/subspaces.md#dfm)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from adcore.core import contracts
from adcore.core.contracts import Curves, Maps, Progress, silent

if TYPE_CHECKING:
    import torch

    from adcore.methods._pca import Subspace


class DFMOptions(contracts.MethodOptions):
    """`variance`: share that the components explain. `score`: the squared reconstruction error (fre), or the negative
    log likelihood of a Gaussian along the components (nll), beside which the map is still the error's. `pooling`: side
    of the squares of positions that are averaged."""

    variance: Annotated[float, Field(gt=0, le=1)] = 0.97
    score: Literal["fre", "nll"] = "fre"
    pooling: PositiveInt = 4


class DFM(contracts.FeatureMethod):
    """A whole image, all its averaged positions side by side, is one sample."""

    name = "dfm"
    at_score = ("variance", "score")
    Options = DFMOptions
    options: DFMOptions
    levels = (3,)
    smoothing = 0.0
    trial: ClassVar[dict[str, Any]] = {"pooling": 1}
    subspace: Subspace

    @classmethod
    def state_bytes(cls, options: DFMOptions, extractor: contracts.Extractor, images: int) -> int:
        """Mean, components and variances."""
        from adcore.methods._pca import subspace_bytes

        return subspace_bytes(images, _dims(extractor.shapes(), options.pooling))

    def fit(self, features: contracts.FeatureSource, progress: Progress = silent) -> Curves:
        """Reads the features once."""
        from adcore.methods import _pca

        blocks = (self._pooled(batch).flatten(1) for batch in features)
        self.subspace = _pca.fit(blocks, len(features), _dims(features.shapes, self.options.pooling))
        progress(1.0)
        return {}

    def score(self, features: Maps) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Maps on the averaged grid. Raises ValueError where the likelihood is asked for and nothing varies."""
        import torch

        pooled = self._pooled(features)
        rows, count = pooled.flatten(1), self.subspace.kept(self.options.variance)
        maps = self.subspace.residual(rows, count).view_as(pooled).square().sum(1)
        if self.options.score == "fre":
            return maps, maps.sum((1, 2))
        if not count:
            raise ValueError("dfm: score nll needs training images that differ, and there is no variance; write fre")
        variances = self.subspace.variances[:count].float()
        squares = self.subspace.coordinates(rows, count).square() / variances
        return maps, squares.sum(1) + torch.log(variances).sum()

    def state(self) -> dict[str, torch.Tensor]:
        """The subspace."""
        return self.subspace._asdict()

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take back what `state` gave."""
        from adcore.methods._pca import Subspace

        self.subspace = Subspace(**{name: state[name].to(self.context.device) for name in Subspace._fields})

    def _pooled(self, maps: Maps) -> torch.Tensor:
        """All maps, averaged on the first one's grid, joined: (B, C, h, w)."""
        import torch
        from torch.nn.functional import adaptive_avg_pool2d

        grid = _grid((maps[0].shape[2], maps[0].shape[3]), self.options.pooling)
        return torch.cat([adaptive_avg_pool2d(one, grid) for one in maps], 1)


def _grid(sides: tuple[int, int], pooling: int) -> tuple[int, int]:
    """What is left of a map's sides; squares that do not fit are a little smaller, so that no position is lost."""
    return -(-sides[0] // pooling), -(-sides[1] // pooling)


def _dims(shapes: Sequence[contracts.Shape], pooling: int) -> int:
    """Values of one image."""
    height, width = _grid((shapes[0][1], shapes[0][2]), pooling)
    return sum(channels for channels, _, _ in shapes) * height * width
