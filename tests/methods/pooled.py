"""A frozen extractor for methods that are given images, without a network behind it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional


class Pooled:
    """Each position sees its 4 x 4 pixels' colours, averaged to it, mixed by fixed random weights; a map per level."""

    device = "cpu"
    model = None
    mean = torch.full((1, 3, 1, 1), 0.5)
    std = torch.full((1, 3, 1, 1), 0.25)

    def __init__(self, levels: Sequence[int], channels: Sequence[int], size: int) -> None:
        self.levels = tuple(levels)
        self.size = size
        random = torch.Generator().manual_seed(0)
        self.mixers = [torch.randn(wide, 48, 1, 1, generator=random) for wide in channels]

    def __call__(self, batch: torch.Tensor) -> list[torch.Tensor]:
        return self.maps(batch)

    def maps(self, batch: torch.Tensor) -> list[torch.Tensor]:
        seen = functional.pixel_unshuffle((batch.float() / 255 - self.mean) / self.std, 4)
        sides = [self.size // 2 ** (level + 1) for level in self.levels]
        pairs = zip(self.mixers, sides, strict=True)
        return [functional.conv2d(functional.adaptive_avg_pool2d(seen, side), mixer) for mixer, side in pairs]

    def shapes(self) -> list[tuple[int, int, int]]:
        blank = torch.zeros(1, 3, self.size, self.size, dtype=torch.uint8)
        return [(maps.shape[1], maps.shape[2], maps.shape[3]) for maps in self.maps(blank)]
