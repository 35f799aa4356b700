"""SubspaceAD (Lendering et al., CVPR 2026): what of a patch the principal components of few normal images' patches do
not explain (docs/papers/subspaces.md#subspacead)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, NonNegativeInt, field_validator

from adcore.core import contracts
from adcore.core.contracts import TOKENS, Curves, Level, Levels, Maps, Progress, block_of, silent

if TYPE_CHECKING:
    import torch

    from adcore.methods._pca import Subspace

DEGREES = 345.0  # a copy is turned by less than that
TOP = 0.01  # share of an image's pixels that its score is the mean of
BATCH = 16  # copies at once


class SubspaceADOptions(contracts.MethodOptions):
    """`variance`: share that the components explain. `rotations`: copies of each training image, turned at random, that
    are fitted beside it, where there are at most `few` of them. `levels`: what is read of the backbone; the mean of
    maps that are alike, as a transformer's are, others side by side on the first one's grid."""

    variance: Annotated[float, Field(gt=0, le=1)] = 0.99
    rotations: NonNegativeInt = 30
    few: NonNegativeInt = 16
    levels: Annotated[tuple[Level, ...], Field(min_length=1)] = (2, 3)

    @field_validator("levels")
    @classmethod
    def _are_maps(cls, levels: Levels) -> Levels:
        if wrong := [level for level in levels if level not in (*range(5), TOKENS) and block_of(level) is None]:
            raise ValueError(f"'{wrong[0]}' is no map of a backbone; name some, as 2, block3 or tokens")
        return levels

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
        left = self.subspace.residual(_rows(joined), self.subspace.kept(self.options.variance))
        maps = left.square().sum(1).reshape(len(joined), *joined.shape[2:])
        pixels = postprocess(maps, self.context.image_size, self.smoothing).flatten(1)
        return maps, pixels.topk(max(1, int(TOP * pixels.shape[1])), dim=1).values.mean(1)

    def state(self) -> dict[str, torch.Tensor]:
        """The subspace."""
        return self.subspace._asdict()

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take back what `state` gave."""
        from adcore.methods._pca import Subspace

        self.subspace = Subspace(**{name: state[name].to(self.context.device) for name in Subspace._fields})

    def _patches(self, features: contracts.FeatureSource) -> Iterator[torch.Tensor]:
        """Of the training images, then of their turned copies: blocks (n, d)."""
        for batch in features:
            yield _rows(_joined(batch))
        if copies := self.options.copies(len(features)):
            yield from self._turned(features, copies)

    def _turned(self, features: contracts.FeatureSource, copies: int) -> Iterator[torch.Tensor]:
        from adcore.core.draws import generator

        images = features.images
        if images is None or self.context.extractor is None:
            raise ValueError(
                "subspace_ad: rotations are of the training images, but only features are given; write rotations: 0"
            )
        extractor = self.context.extractor()
        for index in range(len(features)):
            degrees = generator(self.context.seed, self.name, index).uniform(0, DEGREES, copies)
            image = images.at([index])
            for begin in range(0, copies, BATCH):
                yield _rows(_joined(extractor(turned(image, degrees[begin : begin + BATCH].tolist()))))


def turned(image: torch.Tensor, degrees: Sequence[float]) -> torch.Tensor:
    """An image (1, 3, H, W), uint8, turned about its centre against the clock by each angle: (len(degrees), 3, H, W).

    Bilinear; what comes from beyond the border is reflected there.
    """
    import torch
    from torch.nn.functional import grid_sample

    height, width = image.shape[2:]
    angles = torch.deg2rad(torch.as_tensor(degrees, dtype=torch.float32))
    cosines, sines = (value[:, None, None].to(image.device) for value in (angles.cos(), angles.sin()))
    y, x = torch.meshgrid(
        *(torch.arange(side, device=image.device) + 0.5 - side / 2 for side in (height, width)), indexing="ij"
    )
    # Where a pixel of the turned image comes from, in pixels from the centre; then in the units of grid_sample.
    source = torch.stack([(cosines * x - sines * y) * 2 / width, (sines * x + cosines * y) * 2 / height], 3)
    found = grid_sample(
        image.float().expand(len(source), -1, -1, -1), source, padding_mode="reflection", align_corners=False
    )
    return found.round_().clamp_(0, 255).to(torch.uint8)


def _joined(maps: Maps) -> torch.Tensor:
    """(B, C, h, w)."""
    import torch

    from adcore.vision.maps import resized

    if len({one.shape for one in maps}) == 1:
        return torch.stack(list(maps)).mean(0)
    grid = (maps[0].shape[2], maps[0].shape[3])
    return torch.cat([resized(one, grid) for one in maps], 1)


def _rows(maps: torch.Tensor) -> torch.Tensor:
    """Maps (B, C, h, w) -> patches (B * h * w, C)."""
    return maps.flatten(2).transpose(1, 2).flatten(0, 1)


def _samples(shapes: Sequence[contracts.Shape], options: SubspaceADOptions, images: int) -> int:
    """Patches that are fitted."""
    return images * (1 + options.copies(images)) * shapes[0][1] * shapes[0][2]


def _dims(shapes: Sequence[contracts.Shape]) -> int:
    """Channels of a patch."""
    return shapes[0][0] if len(set(shapes)) == 1 else sum(channels for channels, _, _ in shapes)
