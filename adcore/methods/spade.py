"""SPADE (Cohen & Hoshen 2020): each position's distance to the nearest one in the normal images that are most alike
(docs/papers/spade.md)."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import PositiveInt

from adcore.core import contracts
from adcore.core.contracts import POOLED, Curves, Maps, Progress, silent

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

FLOAT = 4  # bytes


class SPADEOptions(contracts.MethodOptions):
    """`neighbours`: K, how many normal images an image is held against; all of them where there are fewer.
    `image_score`: the mean squared distance of its pooled vector to theirs, or the maximum of its smoothed map."""

    neighbours: PositiveInt = 50
    image_score: Literal["pooled", "map"] = "pooled"


class SPADE(contracts.FeatureMethod):
    """Keeps the features of all training images, the gallery. The nearest images are those of the nearest pooled
    vectors."""

    name = "spade"
    at_score = ("neighbours", "image_score")
    Options = SPADEOptions
    options: SPADEOptions
    levels = (1, 2, 3, POOLED)
    trial: ClassVar[dict[str, Any]] = {"neighbours": 5}
    grids: list[tuple[int, int]]  # of the maps, the finest first
    gallery: list[torch.Tensor]  # (N, rows, C) per map, arranged by kernels/pyramid.py
    vectors: torch.Tensor  # (N, C)

    @classmethod
    def state_bytes(cls, options: SPADEOptions, extractor: contracts.Extractor, images: int) -> int:
        """The features of every training image."""
        return gallery_bytes(extractor.shapes(), images)

    def fit(self, features: contracts.FeatureSource, progress: Progress = silent) -> Curves:
        """Keeps the features. Raises ValueError where there is no room for them in the memory budget."""
        import torch

        from adcore.core.devices import room
        from adcore.kernels.pyramid import arranged, families

        device, count = self.context.device, len(features)
        size, free = gallery_bytes(features.shapes, count), room(device, self.context.memory_gb)
        if size > free:
            raise ValueError(
                f"spade: the features of {count} images take {size / 1e9:.2g} GB, and there is room for "
                f"{free / 1e9:.2g}; raise budget.memory_gb, or lower image or max_train"
            )
        shapes = _maps(features.shapes)
        self.grids = [(height, width) for _, height, width in shapes]
        orders = families(self.grids)
        sizes = [(order.numel(), channels) for order, (channels, _, _) in zip(orders, shapes, strict=True)]
        self.gallery = [torch.empty(count, *size, device=device) for size in sizes]
        self.vectors = torch.empty(count, features.shapes[-1][0], device=device)
        filled = 0
        for batch in features:
            part = slice(filled, filled + len(batch[0]))
            for level, maps, order in zip(self.gallery, batch, orders, strict=False):
                level[part] = arranged(maps, order)
            self.vectors[part] = batch[-1].mean((2, 3))
            filled = part.stop
            progress(filled / count)
        return {}

    def score(self, features: Maps) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Squared distances on the finest grid, and the image scores."""
        import torch

        from adcore.kernels.nearest import nearest
        from adcore.kernels.pyramid import arranged, families, nearest_squared

        count = min(self.options.neighbours, len(self.vectors))
        far, images = nearest(features[-1].mean((2, 3)), self.vectors, count)
        orders = families(self.grids)
        asked = [arranged(maps, order) for maps, order in zip(features, orders, strict=False)]
        # Every image has neighbours of its own, so that there is no product for all of a batch.
        maps = torch.stack(
            [
                nearest_squared([level[place] for level in asked], self.gallery, images[place], orders)
                for place in range(len(images))
            ]
        )
        pooled = self.options.image_score == "pooled"
        return maps.reshape(-1, *self.grids[0]), far.square().mean(1) if pooled else None

    def state(self) -> dict[str, torch.Tensor]:
        """The gallery, the pooled vectors and the grids."""
        import torch

        levels = {f"level{place}": level for place, level in enumerate(self.gallery)}
        return levels | {"vectors": self.vectors, "grids": torch.tensor(self.grids)}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take back what `state` gave."""
        device = self.context.device
        self.grids = [(height, width) for height, width in state["grids"].tolist()]
        self.gallery = [state[f"level{place}"].to(device) for place in range(len(self.grids))]
        self.vectors = state["vectors"].to(device)


def gallery_bytes(shapes: Sequence[contracts.Shape], images: int) -> int:
    """Bytes of what is kept of so many images with maps of these shapes."""
    from adcore.kernels.pyramid import families

    maps = _maps(shapes)
    orders = families([(height, width) for _, height, width in maps])
    values = [order.numel() * channels for order, (channels, _, _) in zip(orders, maps, strict=True)]
    return FLOAT * images * (sum(values) + shapes[-1][0]) + 16 * len(maps)


def _maps(shapes: Sequence[contracts.Shape]) -> Sequence[contracts.Shape]:
    """Without the pooled vector. Where a plan's layers name none, the last map's mean takes its place."""
    vector = len(shapes) > 1 and prod(shapes[-1][1:]) == 1
    return shapes[:-1] if vector else shapes
