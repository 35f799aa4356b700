"""SubspaceAD (Lendering et al., CVPR 2026): what of a patch the principal components of few normal images' patches do
not explain (docs/papers/subspaces.md#subspacead)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, NonNegativeInt

from adcore.core import contracts
from adcore.core.contracts import Curves, Levels, Maps, Progress, silent
from adcore.methods._few import MapLevels, rows, side_by_side, top_mean, turned_maps

if TYPE_CHECKING:
    import torch

    from adcore.methods._pca import Subspace

DEGREES = 345.0  # a copy is turned by less than that


class SubspaceADOptions(contracts.MethodOptions):
    """`variance`: share that the components explain. `rotations`: copies of each training image, turned at random, that
    are fitted beside it, where there are at most `few` of them. `levels`: what is read of the backbone; the mean of
    maps that are alike, as a transformer's are, others side by side on the first one's grid."""

    variance: Annotated[float, Field(gt=0, le=1)] = 0.99
    rotations: NonNegativeInt = 30
    few: NonNegativeInt = 16
    levels: MapLevels = (2, 3)

    def copies(self, images: int) -> int:
        """Turned copies of each of so many training images."""
        return self.rotations if images <= self.few else 0


class SubspaceAD(contracts.FeatureMethod):
    """The squared residual of each patch; the image score is the mean of the highest hundredth of the smoothed map."""

    name = "subspace_ad"
    at_score = ("variance",)
    Options = SubspaceADOptions
    options: SubspaceADOptions
    levels = (2, 3)
    trial: ClassVar[dict[str, Any]] = {"rotations": 2}
    subspace: Subspace

    @classmethod
    def reads(cls, options: SubspaceADOptions) -> Levels:
        """Its option."""
        return options.levels

    @classmethod
    def state_bytes(cls, options: SubspaceADOptions, extractor: contracts.Extractor, images: int) -> int:
        """Mean, components and variances."""
        from adcore.methods._pca import subspace_bytes

        return subspace_bytes(_samples(extractor.shapes(), options, images), _dims(extractor.shapes()))

    def fit(self, features: contracts.FeatureSource, progress: Progress = silent) -> Curves:
        """Raises ValueError where images are to be turned and only features are given."""
        from adcore.methods import _pca

        samples, dims = _samples(features.shapes, self.options, len(features)), _dims(features.shapes)
        self.subspace = _pca.fit(self._patches(features), samples, dims)
        progress(1.0)
        return {}

    def score(self, features: Maps) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Maps on the grid of the first level, and the image scores."""
        from adcore.vision.maps import postprocess

        joined = _joined(features)
        left = self.subspace.residual(rows(joined), self.subspace.kept(self.options.variance))
        maps = left.square().sum(1).reshape(len(joined), *joined.shape[2:])
        pixels = postprocess(maps, self.context.image_size, self.smoothing).flatten(1)
        return maps, top_mean(pixels)

    def state(self) -> dict[str, torch.Tensor]:
        """The subspace."""
        return self.subspace._asdict()

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take back what `state` gave."""
        from adcore.methods._pca import Subspace

        self.subspace = Subspace(**{name: state[name].to(self.context.device) for name in Subspace._fields})

    def _patches(self, features: contracts.FeatureSource) -> Iterator[torch.Tensor]:
        """Of the training images, then of their turned copies: blocks (n, d)."""
        from adcore.core.draws import generator

        for batch in features:
            yield rows(_joined(batch))
        if copies := self.options.copies(len(features)):

            def degrees(index: int) -> list[float]:
                drawn: list[float] = generator(self.context.seed, self.name, index).uniform(0, DEGREES, copies).tolist()
                return drawn

            for batch in turned_maps(self.name, features, self.context, degrees):
                yield rows(_joined(batch))


def _joined(maps: Maps) -> torch.Tensor:
    """(B, C, h, w)."""
    import torch

    if len({one.shape for one in maps}) == 1:
        return torch.stack(list(maps)).mean(0)
    return side_by_side(maps)


def _samples(shapes: Sequence[contracts.Shape], options: SubspaceADOptions, images: int) -> int:
    """Patches that are fitted."""
    return images * (1 + options.copies(images)) * shapes[0][1] * shapes[0][2]


def _dims(shapes: Sequence[contracts.Shape]) -> int:
    """Channels of a patch."""
    return shapes[0][0] if len(set(shapes)) == 1 else sum(channels for channels, _, _ in shapes)
