"""What a method reads of a backbone by name, beside maps by their stride (`Method.levels` in core/contracts.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from adcore.core.contracts import CLS, POOLED, TOKENS, Level, block_of


class TransformerLevels(nn.Module):
    """A transformer of tokens: images -> one map (B, C, H, W) per level, a vector as (B, C, 1, 1).

    blocks: the index, from 0, of the block that each level by stride stands for. Raises ValueError for a level that the
    network has not.
    """

    def __init__(self, model: Any, levels: Sequence[Level], blocks: dict[int, int]) -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.pretrained_cfg = model.pretrained_cfg
        self.place: dict[Level, int] = {}
        for level in levels:
            if isinstance(level, int):
                self.place[level] = blocks[level]
            elif (number := block_of(level)) is not None:
                if number > len(model.blocks):
                    raise ValueError(f"it has {len(model.blocks)} blocks, and '{level}' is read of it")
                self.place[level] = number - 1
        self.stops = len(self.place) == len(self.levels)  # nothing behind the last block is read
        if CLS in levels and "cls_token" not in model._parameters:
            raise ValueError(f"it has no class token, which '{CLS}' reads")
        if self.stops:
            model.prune_intermediate_layers(sorted(set(self.place.values())), prune_norm=True)
        self.model = model

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Images (B, 3, size, size), normalised."""
        indices = sorted(set(self.place.values())) or [len(self.model.blocks) - 1]
        found = self.model.forward_intermediates(images, indices=indices, intermediates_only=self.stops)
        if self.stops:
            maps = dict(zip(indices, found, strict=True))
            return [maps[self.place[level]] for level in self.levels]
        tokens, between = found
        maps = dict(zip(indices, between, strict=True))
        grid = between[0].shape[2:]
        own = tokens[:, -grid[0] * grid[1] :].transpose(1, 2).unflatten(2, grid)  # class and register tokens come first
        given = {TOKENS: own, POOLED: own.mean((2, 3), keepdim=True), CLS: tokens[:, 0, :, None, None]}
        return [maps[self.place[level]] if level in self.place else given[str(level)] for level in self.levels]


class ConvolutionLevels(nn.Module):
    """A network of stages, whose last map is averaged for POOLED: images -> one map (B, C, H, W) per level.

    model: gives the maps of `strides`, in order, the last of which is level 4."""

    def __init__(self, model: Any, levels: Sequence[Level], strides: Sequence[int]) -> None:
        super().__init__()
        self.levels, self.strides = tuple(levels), tuple(strides)
        self.pretrained_cfg = model.pretrained_cfg
        self.model = model

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Images (B, 3, size, size), normalised."""
        maps: dict[Level, torch.Tensor] = dict(zip(self.strides, self.model(images), strict=True))
        maps[POOLED] = maps[self.strides[-1]].mean((2, 3), keepdim=True)
        return [maps[level] for level in self.levels]
