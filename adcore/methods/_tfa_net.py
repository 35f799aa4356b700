"""TFA-Net (Luo et al. 2024): features of an image rebuilt out of those of a fixed template.

What is the paper's and what the released code's: docs/papers/tfa-net.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from timm.models.vision_transformer import Block
from torch import nn
from torch.nn import functional

from adcore.vision.maps import postprocess

Variant = Literal["C", "A", "B", "vanilla"]
Masking = Literal["none", "drop", "complementary"]
Distance = Literal["dual", "euclidean", "cosine"]

COSINE_WEIGHT = 5.0
CLS_DEVIATION = 0.02
SIGMA = 4.0  # of the Gaussian on each map, in pixels of the image


@dataclass(frozen=True)
class Blocks:
    """A stack of pre-norm transformer blocks; the MLP is four times as wide."""

    width: int
    depth: int
    heads: int

    def made(self) -> nn.ModuleList:
        return nn.ModuleList(Block(self.width, self.heads, qkv_bias=True) for _ in range(self.depth))


class TFANet(nn.Module):
    """Template aggregation (TFAM), then refinement (FDRM), on tokens of patch x patch positions with `channels` each.

    side: tokens a side. variant: C rebuilds the image from the rows of the template; A from its own rows (a shortcut);
    B without refinement; vanilla without a template. masking, while training: `drop` hides `mask_ratio` of the image's
    tokens from TFAM; `complementary` shows it one random half of the image with one of the template, then the others,
    in scoring too, where the halves are always the same ones. use_cls False: no CLS token, the only other way from
    image to output than the template's attention.
    """

    position: torch.Tensor
    refine_position: torch.Tensor

    def __init__(
        self,
        channels: int,
        side: int,
        patch: int,
        aggregation: Blocks,
        refinement: Blocks,
        *,
        variant: Variant = "C",
        use_cls: bool = True,
        masking: Masking = "none",
        mask_ratio: float = 0.5,
    ) -> None:
        super().__init__()
        self.own_rows = variant in ("A", "vanilla")
        self.masking, self.mask_ratio = masking, mask_ratio
        values, width = channels * patch**2, aggregation.width
        self.patch_embed = nn.Linear(values, width)
        self.register_buffer("position", positions(width, side), persistent=False)
        self.cls = nn.Parameter(torch.zeros(1, 1, width)) if use_cls else None
        self.blocks = aggregation.made()
        self.norm = nn.LayerNorm(width)
        self.refine = variant != "B"
        if self.refine:
            width = refinement.width
            self.refine_embed = nn.Linear(aggregation.width, width)
            self.register_buffer("refine_position", positions(width, side), persistent=False)
            self.refine_blocks = refinement.made()
            self.refine_norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, values)

    def initialise(self, seed: int) -> None:
        """Xavier-uniform linear maps, biases of zero, a CLS token of deviation 0.02, as MAE has them."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    nn.init.xavier_uniform_(module.weight)
                    nn.init.zeros_(module.bias)
            if self.cls is not None:
                nn.init.normal_(self.cls, std=CLS_DEVIATION)

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens (B, N, patch^2 C) of an image or template, as TFAM gets them: (B, N, width)."""
        embedded: torch.Tensor = self.patch_embed(tokens) + self.position
        return embedded

    def forward(self, tokens: torch.Tensor, template: torch.Tensor | None) -> torch.Tensor:
        """Tokens (B, N, patch^2 C) -> the same, rebuilt; `template` (1, N, width) is embedded, None for vanilla."""
        image = self.embed(tokens)
        hidden = None if template is None else template.expand(len(image), -1, -1)
        if hidden is not None and self.masking == "complementary":
            rows = self._in_halves(image, hidden)
        elif self.masking == "drop" and self.training:
            kept = round(image.shape[1] * (1 - self.mask_ratio))
            rows = self._aggregated(_rows(image, self._orders(image)[:, : max(1, kept)]), hidden)
        else:
            rows = self._aggregated(image, hidden)
        first = 0 if self.cls is None else 1
        if self.refine:
            rows = self.refine_embed(rows)
            rows = torch.cat([rows[:, :first], rows[:, first:] + self.refine_position], 1)
            for block in self.refine_blocks:
                rows = block(rows)
            rows = self.refine_norm(rows)
        rebuilt: torch.Tensor = self.head(rows[:, first:])
        return rebuilt

    def _aggregated(self, image: torch.Tensor, template: torch.Tensor | None) -> torch.Tensor:
        """CLS, where there is one, and the rows to rebuild from, behind TFAM."""
        parts = [image] if template is None else [image, template]
        if self.cls is not None:
            parts = [self.cls.expand(len(image), -1, -1), *parts]
        rows = torch.cat(parts, 1)
        for block in self.blocks:
            rows = block(rows)
        rows = self.norm(rows)
        first = 0 if self.cls is None else 1
        end = first + image.shape[1]
        return rows[:, :end] if self.own_rows else torch.cat([rows[:, :first], rows[:, end:]], 1)

    def _in_halves(self, image: torch.Tensor, template: torch.Tensor) -> torch.Tensor:
        """Two passes over complementary halves; rows come back in the template's order, CLS from the first pass."""
        orders = self._orders(image), self._orders(image, second=True)
        half = image.shape[1] // 2
        passes = []
        for part in (slice(None, half), slice(half, None)):
            passes.append(self._aggregated(_rows(image, orders[0][:, part]), _rows(template, orders[1][:, part])))
        first = 0 if self.cls is None else 1
        rows = torch.cat([rows[:, first:] for rows in passes], 1)
        return torch.cat([passes[0][:, :first], _rows(rows, orders[1].argsort(1))], 1)

    def _orders(self, image: torch.Tensor, second: bool = False) -> torch.Tensor:
        """A random order of the tokens for each image; outside training the same for all, so that scores repeat."""
        count, length, _ = image.shape
        if self.training:
            return torch.rand(count, length, device="cpu").argsort(1).to(image.device)
        generator = torch.Generator().manual_seed(int(second))
        order = torch.randperm(length, generator=generator, device="cpu")
        return order.to(image.device).expand(count, -1)


def positions(width: int, side: int) -> torch.Tensor:
    """The fixed sine-cosine code of a square grid, (side^2, width): columns in the first half, rows in the second."""
    frequencies = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    angles = torch.arange(side, dtype=torch.float64)[:, None] * frequencies
    code = torch.cat([angles.sin(), angles.cos()], 1)
    return torch.cat([code.repeat(side, 1), code.repeat_interleave(side, 0)], 1).float()


def joined(maps: Sequence[torch.Tensor], grid: int, normalise: bool) -> torch.Tensor:
    """All maps on one grid (bilinear, corners aligned, as released), their channels joined: (B, C, grid, grid).

    normalise: unit length over the channels, the released recipe for (Wide) ResNet-101 alone.
    """
    size = (grid, grid)
    resized = [functional.interpolate(x, size=size, mode="bilinear", align_corners=True) for x in maps]
    features = torch.cat(resized, 1)
    return functional.normalize(features, dim=1) if normalise else features


@dataclass(frozen=True)
class Spread:
    """How features lie about their means over the training images: `mean` and `deviation` of each channel over all
    positions, and each channel's mean variance `about_map`, the mean feature map; all (1, C, 1, 1), float32. The
    deviation of a channel that is constant is 1."""

    mean: torch.Tensor
    deviation: torch.Tensor
    about_map: torch.Tensor

    @classmethod
    def of(cls, batches: Iterable[torch.Tensor]) -> Spread:
        """Of all features (B, C, H, W), summed in float64."""
        count, total, squares = 0, torch.zeros(()), torch.zeros(())
        for batch in batches:
            values = batch.double()
            count += len(values)
            total, squares = total + values.sum(0), squares + values.square().sum(0)
        maps, power = total / count, squares / count

        def by_channel(values: torch.Tensor) -> torch.Tensor:
            return values.mean((1, 2))[None, :, None, None]

        mean = by_channel(maps)
        variance = (by_channel(power) - mean.square()).clamp(min=0)
        constant = variance <= 1e-12 * by_channel(power)  # rounding of the difference
        about_map = by_channel((power - maps.square()).clamp(min=0))
        return cls(mean.float(), torch.where(constant, 1, variance.sqrt()).float(), about_map.float())


def patchify(features: torch.Tensor, patch: int) -> torch.Tensor:
    """(B, C, H, W) -> (B, N, patch^2 C): a token for each patch x patch square, all channels of a position together."""
    count, channels, height, width = features.shape
    squares = features.reshape(count, channels, height // patch, patch, width // patch, patch)
    return squares.permute(0, 2, 4, 3, 5, 1).reshape(count, -1, patch**2 * channels)


def unpatchify(tokens: torch.Tensor, patch: int) -> torch.Tensor:
    """The inverse of `patchify` for a square grid: (B, N, patch^2 C) -> (B, C, H, W)."""
    side = round(tokens.shape[1] ** 0.5)
    squares = tokens.reshape(len(tokens), side, side, patch, patch, -1)
    return squares.permute(0, 5, 1, 3, 2, 4).reshape(len(tokens), -1, side * patch, side * patch)


def cosine_distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """1 - cosine over the last dimension; exactly 0 for equal vectors, also for two of length 0."""
    return (functional.normalize(a, dim=-1) - functional.normalize(b, dim=-1)).square().sum(-1) / 2


def losses(rebuilt: torch.Tensor, tokens: torch.Tensor, channels: int, per: Literal["token", "pixel"]) -> torch.Tensor:
    """Mean squared error and mean cosine distance, (2,), the latter of whole tokens or of each position's channels."""
    rebuilt, tokens = rebuilt.float(), tokens.float()
    error = functional.mse_loss(rebuilt, tokens)
    if per == "pixel":
        rebuilt, tokens = _by_position(rebuilt, channels), _by_position(tokens, channels)
    return torch.stack([error, cosine_distance(rebuilt, tokens).mean()])


def anomaly_map(
    rebuilt: torch.Tensor, tokens: torch.Tensor, channels: int, patch: int, size: tuple[int, int], distance: Distance
) -> torch.Tensor:
    """The dual-mode map (B, H, W) at `size`: mean squared error and cosine distance of the channels at each position,
    each upsampled (bilinear, corners aligned) and smoothed, then multiplied; or only one of them."""
    a, b = _by_position(rebuilt, channels), _by_position(tokens, channels)
    parts = []
    if distance != "cosine":
        parts.append((a - b).square().mean(3))
    if distance != "euclidean":
        parts.append(cosine_distance(a, b))
    grids = torch.cat([unpatchify(part, patch) for part in parts], 1)
    fine = functional.interpolate(grids, size=size, mode="bilinear", align_corners=True)
    return postprocess(fine.flatten(0, 1), size, SIGMA).reshape(fine.shape).prod(1)


def _by_position(tokens: torch.Tensor, channels: int) -> torch.Tensor:
    """(B, N, patch^2 C) -> (B, N, patch^2, C)."""
    return tokens.reshape(*tokens.shape[:2], -1, channels)


def _rows(tokens: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """tokens[b, index[b]]: (B, N, D) by (B, M) -> (B, M, D)."""
    return tokens.gather(1, index[:, :, None].expand(-1, -1, tokens.shape[2]))
