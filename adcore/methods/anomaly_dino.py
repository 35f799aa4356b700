"""AnomalyDINO (Damm et al., WACV 2025): cosine distance of each patch to the nearest one of few normal images and their
turned copies (docs/papers/anomaly_dino.md)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, NonNegativeInt, PositiveInt

from adcore.core import contracts
from adcore.core.contracts import Curves, Levels, Maps, Progress, silent
from adcore.methods._few import MapLevels, rows, side_by_side, top_mean, turned_maps

if TYPE_CHECKING:
    import torch

FLOAT = 4  # bytes
BORDER = 0.2  # share of a side that the centre of a grid leaves out, at each end
PLAUSIBLE = 0.35  # a mask covers more than this share of the centre
KERNEL = 3  # positions, of the dilation and the closing


class AnomalyDINOOptions(contracts.MethodOptions):
    """`rotations`: versions of each training image that are kept, turned by equal steps of a circle, the image as it is
    among them, where there are at most `few` images; else that one alone. `mask`: distances off the object count 0;
    the object is where the first principal component of an image's patches is beyond `threshold`, in units of the
    features (10 is for DINOv2's tokens). `levels`: what is read of the backbone, side by side on the first one's grid;
    the paper's is [tokens]."""

    rotations: PositiveInt = 8
    few: NonNegativeInt = 16
    mask: bool = False
    threshold: Annotated[float, Field(ge=0)] = 10.0
    levels: MapLevels = (2, 3)

    def angles(self, images: int) -> list[float]:
        """Degrees that each of so many training images is turned by, beside the image as it is."""
        return [360 * step / self.rotations for step in range(1, self.rotations)] if images <= self.few else []


class AnomalyDINO(contracts.FeatureMethod):
    """A memory of all patches, at length 1; the image score is the mean of the highest hundredth of the distances."""

    name = "anomaly_dino"
    at_score = ("mask", "threshold")
    Options = AnomalyDINOOptions
    options: AnomalyDINOOptions
    levels = (2, 3)
    trial: ClassVar[dict[str, Any]] = {"rotations": 2, "mask": True}
    memory: torch.Tensor  # (n, C)

    @classmethod
    def reads(cls, options: AnomalyDINOOptions) -> Levels:
        """Its option."""
        return options.levels

    @classmethod
    def state_bytes(cls, options: AnomalyDINOOptions, extractor: contracts.Extractor, images: int) -> int:
        """The memory."""
        count, dims = _size(extractor.shapes(), options, images)
        return FLOAT * count * dims

    def fit(self, features: contracts.FeatureSource, progress: Progress = silent) -> Curves:
        """Raises ValueError where there is no room for the memory in the budget, and where images are to be turned and
        only features are given."""
        import torch
        from torch.nn.functional import normalize

        from adcore.core.devices import room

        device = self.context.device
        count, dims = _size(features.shapes, self.options, len(features))
        needed, free = FLOAT * count * dims, room(device, self.context.memory_gb)
        if needed > free:
            raise ValueError(
                f"anomaly_dino: all patches of {len(features)} images take {needed / 1e9:.2g} GB, and there is room "
                f"for {free / 1e9:.2g}; raise budget.memory_gb, or lower rotations, image or max_train"
            )
        self.memory = torch.empty(count, dims, device=device)
        filled = 0
        for block in self._patches(features):
            self.memory[filled : filled + len(block)] = normalize(block)
            filled += len(block)
            progress(filled / count)
        return {}

    def score(self, features: Maps) -> tuple[torch.Tensor, torch.Tensor | None]:
        """1 - cosine, and the image scores."""
        from torch.nn.functional import normalize

        from adcore.kernels.nearest import nearest

        maps = side_by_side(features)
        # Of vectors of length 1, |a - b|^2 = 2 (1 - a b): exactly 0 for a patch that is in memory.
        far = nearest(normalize(rows(maps)), self.memory, 1)[0].square() / 2
        distances = far.reshape(len(maps), *maps.shape[2:])
        if self.options.mask:
            distances = distances * foreground(maps, self.options.threshold)
        return distances, top_mean(distances.flatten(1))

    def state(self) -> dict[str, torch.Tensor]:
        """The memory."""
        return {"memory": self.memory}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take back what `state` gave."""
        self.memory = state["memory"].to(self.context.device)

    def _patches(self, features: contracts.FeatureSource) -> Iterator[torch.Tensor]:
        """Of the training images, then of their turned copies: blocks (n, C)."""
        for batch in features:
            yield rows(side_by_side(batch))
        if angles := self.options.angles(len(features)):
            for batch in turned_maps(self.name, features, self.context, lambda _: angles, none=1):
                yield rows(side_by_side(batch))


def foreground(maps: torch.Tensor, threshold: float) -> torch.Tensor:
    """Where the object lies on each of the maps (B, C, h, w): (B, h, w), bool.

    The positions whose first principal component, over the positions of the image, is more than `threshold` to one side
    of the mean: the side that covers more of the centre, since the sign of a component means nothing; dilated, closed.
    All positions where that side is not plausible, as on a texture: where it covers no more than 35 % of the centre.
    """
    import torch

    along = _first_component(maps)
    sides = torch.stack([along > threshold, along < -threshold], 1)
    lines, columns = (
        slice(int(BORDER * side), max(int(BORDER * side) + 1, int((1 - BORDER) * side))) for side in maps.shape[2:]
    )
    share, side = sides[:, :, lines, columns].float().mean((2, 3)).max(1)
    chosen = sides[torch.arange(len(sides), device=sides.device), side]
    return _closed(chosen) | (share <= PLAUSIBLE)[:, None, None]


def _first_component(maps: torch.Tensor) -> torch.Tensor:
    """Of each image's patches (B, C, h, w): (B, h, w), float64, its sign left open."""
    import torch

    patches = maps.flatten(2).transpose(1, 2).double()
    patches = patches - patches.mean(1, keepdim=True)
    across = patches.transpose(1, 2)
    if patches.shape[2] <= patches.shape[1]:
        along = patches @ torch.linalg.eigh(across @ patches)[1][:, :, -1:]
    else:  # the smaller matrix has the same largest eigenvalue, and the scores themselves as its vector
        squares, vectors = torch.linalg.eigh(patches @ across)
        along = vectors[:, :, -1:] * squares[:, None, -1:].clamp(min=0).sqrt()
    scores: torch.Tensor = along.reshape(len(maps), *maps.shape[2:])
    return scores


def _closed(masks: torch.Tensor) -> torch.Tensor:
    """Masks (B, h, w) dilated, then closed, by squares of KERNEL positions; what is beyond the border is ignored."""
    from torch.nn.functional import max_pool2d

    def dilated(values: torch.Tensor) -> torch.Tensor:
        return max_pool2d(values, KERNEL, stride=1, padding=KERNEL // 2)

    return (-dilated(-dilated(dilated(masks[:, None].float()))))[:, 0] > 0


def _size(shapes: Sequence[contracts.Shape], options: AnomalyDINOOptions, images: int) -> tuple[int, int]:
    """Rows and columns of the memory of so many images with maps of these shapes."""
    _, height, width = shapes[0]
    return images * (1 + len(options.angles(images))) * height * width, sum(channels for channels, _, _ in shapes)
