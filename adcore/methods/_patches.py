"""Patches: the features of each position with those around it, all layers on the first one's grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import adaptive_avg_pool1d, avg_pool2d, interpolate, unfold

UNFOLDED = 4  # images whose 3 x 3 neighbourhoods are laid out at once


def concatenated(layers: Sequence[torch.Tensor]) -> torch.Tensor:
    """3 x 3 means, zeros beyond the border counted, joined on the first layer's grid (as anomalib does): (B, positions,
    channels of all layers)."""
    parts = [_resized(avg_pool2d(layer, 3, stride=1, padding=1), layers[0]) for layer in layers]
    return torch.cat(parts, 1).flatten(2).transpose(1, 2)


def pooled(layers: Sequence[torch.Tensor], width: int) -> torch.Tensor:
    """PatchCore's official embedding: channels x 3 x 3 values of each layer pooled to `width`, then all layers' to
    `width`: (B, positions, width)."""

    def values(layer: torch.Tensor) -> torch.Tensor:
        patches = unfold(layer, 3, padding=1).transpose(1, 2)
        # Pooling channels and resizing the grid commute, and pooling first needs less memory.
        found = adaptive_avg_pool1d(patches, width).transpose(1, 2)
        return _resized(found.reshape(len(layer), width, *layer.shape[2:]), layers[0])

    parts = [
        torch.cat([values(layer[begin : begin + UNFOLDED]) for begin in range(0, len(layer), UNFOLDED)])
        for layer in layers
    ]
    return adaptive_avg_pool1d(torch.cat(parts, 1).flatten(2).transpose(1, 2), width)


def _resized(layer: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    if layer.shape[2:] == like.shape[2:]:
        return layer
    return interpolate(layer, size=like.shape[2:], mode="bilinear", align_corners=False)
