"""PatchCore (Roth et al. 2022): distance of each patch to the nearest of a coreset of normal patches.

Where its official code and anomalib differ: docs/papers/hosts.md#patchcore.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from adcore.core import contracts
from adcore.core.contracts import Curves, Progress, silent

if TYPE_CHECKING:
    import torch

NEIGHBOURS = 9  # b of the image score's weight
POOLED = 1024  # values per layer and per patch of `pool1024`
FLOAT = 4  # bytes


class PatchCoreOptions(contracts.MethodOptions):
    """`coreset`: share of the patches that is kept. `embed`: `concat1536` averages 3 x 3 neighbourhoods and joins the
    layers (1536 channels for Wide ResNet-50-2, the layers' own sum for others); `pool1024` is the official code's
    pooling of each neighbourhood to 1024 values, whatever the backbone. `reweight`: weigh the image score by the
    density around the nearest patch; else it is the largest patch distance."""

    coreset: Annotated[float, Field(gt=0, le=1)] = 0.1
    embed: Literal["concat1536", "pool1024"] = "concat1536"
    reweight: bool = True


class PatchCore(contracts.FeatureMethod):
    """A memory bank of patches on the grid of the first layer, and the Euclidean distance to it."""

    name = "patchcore"
    at_score = ("reweight",)
    Options = PatchCoreOptions
    levels = (2, 3)
    trial: ClassVar[dict[str, Any]] = {"coreset": 0.2}
    options: PatchCoreOptions
    memory: torch.Tensor

    @classmethod
    def state_bytes(cls, options: PatchCoreOptions, extractor: contracts.Extractor, images: int) -> int:
        """The coreset's patches."""
        return memory_bytes(extractor.shapes(), options, images)

    def fit(self, features: contracts.FeatureSource, progress: Progress = silent) -> Curves:
        """Reads the features twice: to choose the coreset in a projection, and to gather it."""
        from adcore.kernels.memory import coreset_memory

        def patches() -> Iterator[torch.Tensor]:
            for batch in features:
                yield self._embed(batch).flatten(0, 1)

        _, height, width = features.shapes[0]
        count = len(features) * height * width
        self.memory = coreset_memory(patches, count, self.options.coreset, self.context.seed, progress)
        return {}

    def score(self, features: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Distances to the nearest patch in memory; the image score is the largest, weighted if asked for."""
        import torch

        from adcore.kernels.memory import reweighted
        from adcore.kernels.nearest import nearest

        patches = self._embed(features)
        distances, neighbours = (x.reshape(patches.shape[:2]) for x in nearest(patches.flatten(0, 1), self.memory, 1))
        maps = distances.reshape(-1, *features[0].shape[2:])
        if not self.options.reweight:
            return maps, distances.amax(1)
        images = zip(patches, distances, neighbours, strict=True)
        return maps, torch.stack([reweighted(*image, self.memory, NEIGHBOURS) for image in images])

    def state(self) -> dict[str, torch.Tensor]:
        """The memory bank."""
        return {"memory": self.memory}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take back what `state` gave."""
        self.memory = state["memory"].to(self.context.device)

    def _embed(self, layers: list[torch.Tensor]) -> torch.Tensor:
        """The patches of each image, (B, positions, d)."""
        from adcore.methods import _patches as patches

        return patches.concatenated(layers) if self.options.embed == "concat1536" else patches.pooled(layers, POOLED)


def memory_bytes(shapes: Sequence[contracts.Shape], options: PatchCoreOptions, images: int) -> int:
    """The coreset's patches of so many images with maps of these shapes."""
    _, height, width = shapes[0]
    dims = sum(c for c, _, _ in shapes) if options.embed == "concat1536" else POOLED
    return FLOAT * dims * max(1, int(options.coreset * images * height * width))
