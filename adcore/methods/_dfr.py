"""What DFR's autoencoder is given, and the autoencoder itself (docs/papers/dfr.md)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

REGION = 4  # side, in pixels, of the squares that features are averaged over


class Autoencoder(nn.Module):
    """Six convolutions of 1 x 1: (B, C, H, W) -> (B, C, H, W) through `latent` channels. The embedding and what comes
    out have neither norm nor ReLU."""

    def __init__(self, channels: int, latent: int) -> None:
        super().__init__()
        wide = (channels + 2 * latent) // 2
        self.encoder = _chain([channels, wide, 2 * latent, latent])
        self.decoder = _chain([latent, 2 * latent, wide, channels])

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        rebuilt: torch.Tensor = self.decoder(self.encoder(features))
        return rebuilt


def _chain(widths: Sequence[int]) -> nn.Sequential:
    parts: list[nn.Module] = []
    for start, end in pairwise(widths):
        parts += [nn.Conv2d(start, end, 1), nn.BatchNorm2d(end), nn.ReLU()]
    return nn.Sequential(*parts[:-2])


def grid(size: tuple[int, int]) -> tuple[int, int]:
    """Squares that an image of `size` has; what is left over at its end is left out."""
    return size[0] // REGION, size[1] // REGION


def regional(maps: Sequence[torch.Tensor], size: tuple[int, int]) -> torch.Tensor:
    """Maps (B, C, h, w), each enlarged to `size` with aligned corners and averaged over squares, joined: (B, C of all,
    *grid(size)). Both are linear and separable, so that the enlarged maps are never made."""

    def averaged(one: torch.Tensor) -> torch.Tensor:
        rows, columns = (_axis(source, target, one) for source, target in zip(one.shape[2:], size, strict=True))
        return rows @ (one @ columns.T)

    return torch.cat([averaged(one) for one in maps], 1)


def _axis(source: int, target: int, like: torch.Tensor) -> torch.Tensor:
    """The matrix (target // REGION, source) that enlarges one axis and averages it."""
    every = torch.eye(source, device=like.device)[None]
    enlarged = functional.interpolate(every, size=target, mode="linear", align_corners=True)
    return functional.avg_pool1d(enlarged, REGION)[0].T


def error(rebuilt: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """The mean squared difference of the channels at each position: (B, H, W)."""
    return (rebuilt - features).square().mean(1)
