"""The networks of SimpleNet and SuperSimpleNet, their losses and what they are given (docs/papers/simplenet.md)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from adcore.methods import _patches as patches

Embed = Literal["pool1536", "concat1536", "double"]

POOLED = 1536  # values a position of `pool1536`
HIDDEN = 1024  # channels inside the discriminator
SLOPE = 0.2  # of its leaky ReLU
MARGIN = 0.5  # of the truncated loss
HEAD, KERNEL = 128, 5  # channels and kernel of the head that judges whole images
FOCUS = 4  # gamma of the focal loss


class SimpleNet(nn.Module):
    """A linear adaptor, and a discriminator of two layers; with a `head` also a score of the whole image.

    Embedded features (B, C, H, W) -> scores of the positions (B, H, W), the higher the odder, and of the images (B,),
    or None without a head.
    """

    def __init__(self, channels: int, head: bool) -> None:
        super().__init__()
        self.adaptor = nn.Conv2d(channels, channels, 1)
        self.discriminator = nn.Sequential(
            nn.Conv2d(channels, HIDDEN, 1),
            nn.BatchNorm2d(HIDDEN),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(HIDDEN, 1, 1, bias=False),
        )
        self.head = Head(channels) if head else None
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_normal_(module.weight)

    def forward(self, embedded: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        return self.judged(self.adaptor(embedded))

    def judged(self, adapted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Of features that are adapted already."""
        found = self.discriminator(adapted)
        return found[:, 0], None if self.head is None else self.head(adapted, found)


class Head(nn.Module):
    """The score of an image, from its features and its map, both averaged and at their maximum. The map takes no
    gradient from it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels + 1, HEAD, KERNEL, padding=KERNEL // 2), nn.BatchNorm2d(HEAD), nn.ReLU()
        )
        self.score = nn.Linear(2 * HEAD + 2, 1)

    def forward(self, adapted: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
        found = found.detach()
        body = self.body(torch.cat([adapted, found], 1))
        parts = [body.amax((2, 3)), body.mean((2, 3)), found.amax((2, 3)), found.mean((2, 3))]
        scores: torch.Tensor = self.score(torch.cat(parts, 1))[:, 0]
        return scores


def embedded(layers: Sequence[torch.Tensor], kind: Embed) -> torch.Tensor:
    """Features (B, C, H, W) of all layers together; `double` has twice the first layer's grid."""
    height, width = layers[0].shape[2:]
    if kind == "double":
        fine = (2 * height, 2 * width)
        parts = [functional.interpolate(one, size=fine, mode="bilinear", align_corners=True) for one in layers]
        return functional.avg_pool2d(torch.cat(parts, 1), 3, stride=1, padding=1)
    rows = patches.concatenated(layers) if kind == "concat1536" else patches.pooled(layers, POOLED)
    return rows.transpose(1, 2).reshape(len(rows), -1, height, width)


def spread(batches: Iterable[torch.Tensor]) -> torch.Tensor:
    """How far features (B, C, H, W) lie about their channels' means: the root of the mean variance, (), float32."""
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for batch in batches:
        values = batch.double().transpose(0, 1).flatten(1)
        count += values.shape[1]
        total, squares = total + values.sum(1), squares + values.square().sum(1)
    variance = squares / count - (total / count).square()
    return variance.clamp(min=0).mean().sqrt().float()


def truncated(found: torch.Tensor, odd: torch.Tensor) -> torch.Tensor:
    """Mean over the normal positions of how far they are above -MARGIN, plus mean over the odd ones (a mask, 1 where
    they are) of how far they are below MARGIN."""
    low = (found + MARGIN).clamp(min=0) * (1 - odd)
    high = (MARGIN - found).clamp(min=0) * odd
    return low.sum() / (1 - odd).sum().clamp(min=1) + high.sum() / odd.sum().clamp(min=1)


def focal(found: torch.Tensor, odd: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of logits, each weighted by its own error to the power of FOCUS."""
    entropy = functional.binary_cross_entropy_with_logits(found, odd, reduction="none")
    error = (found.sigmoid() - odd).abs()
    return (entropy * error**FOCUS).mean()
