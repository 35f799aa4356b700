"""Features of an image set in memory; on an accelerator for methods that read them again in every epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING

import torch

from adcore.core.devices import is_accelerator, room

if TYPE_CHECKING:
    from adcore.core.contracts import FeatureSource, ImageSource, Maps, Shape

BATCH = 16


class Held:
    """A FeatureSource over maps in memory, wherever they lie."""

    def __init__(self, maps: Sequence[torch.Tensor], images: ImageSource | None = None, batch: int = BATCH) -> None:
        self.maps = list(maps)
        self.images = images
        self.batch = batch

    def __len__(self) -> int:
        return len(self.maps[0])

    def __iter__(self) -> Iterator[Maps]:
        for start in range(0, len(self), self.batch):
            yield [features[start : start + self.batch] for features in self.maps]

    def at(self, indices: Sequence[int]) -> Maps:
        """Of those images."""
        return [features[list(indices)] for features in self.maps]

    @property
    def shapes(self) -> list[Shape]:
        """(C, H, W) per map."""
        return [(maps.shape[1], maps.shape[2], maps.shape[3]) for maps in self.maps]


class HeldImages:
    """An ImageSource over images in memory, wherever they lie."""

    def __init__(self, images: torch.Tensor, batch: int = BATCH) -> None:
        self.all = images
        self.batch = batch

    def __len__(self) -> int:
        return len(self.all)

    def __iter__(self) -> Iterator[torch.Tensor]:
        yield from torch.split(self.all, self.batch)

    def at(self, indices: Sequence[int]) -> torch.Tensor:
        """Those images."""
        return self.all[list(indices)]


def held(source: FeatureSource, device: str, memory_gb: float) -> FeatureSource:
    """The same features, bit by bit, in the memory of an accelerator where there is room for them; else the source
    itself: on the host, files that are mapped are read as fast as what is held, and the system keeps them in memory."""
    size = len(source) * sum(4 * prod(shape) for shape in source.shapes)
    if not is_accelerator(device) or size > room(device, memory_gb):
        return source
    maps = [torch.empty(len(source), *shape, device=device) for shape in source.shapes]
    filled = 0
    for batch in source:
        for whole, part in zip(maps, batch, strict=True):
            whole[filled : filled + len(part)] = part
        filled += len(batch[0])
    return Held(maps, source.images)
