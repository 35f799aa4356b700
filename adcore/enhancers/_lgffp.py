"""LGFFP of MFFA (docs/papers/mffa.md#lgffp): three layers on one grid, mixed by the first blocks of a frozen CaiT."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from adcore.features.backbones import WeightsError, fetching
from adcore.vision.maps import resized

PAPER_WIDTHS = (256, 512)  # layer1 and layer2 of wide_resnet50_2: the paper's 768
STAND_IN_SCALE = 1.0  # LayerScale of untrained blocks; CaiT's own start, 1e-6, would make them do nothing
HEAD_WIDTH = 48  # of all CaiT
ATTENTION = 2**30  # bytes; on MFFA's 64 x 64 grid an image of CaiT-M36 takes that much, on 32 x 32 a sixteenth


@dataclass(frozen=True)
class Blocks:
    """Transformer blocks of width `width` and where their weights are from: a CaiT's name, a file or `stand-in`."""

    modules: nn.ModuleList
    width: int
    origin: str


class LGFFP(nn.Module):
    """layer1 beside layer2, plus as many random channels of layer3, through frozen blocks.

    `shapes` are (C, H, W) of strides 4, 8 and 16. The width is C1 + C2; layer3 gives a subset of that many channels,
    drawn once by `seed` and kept in the state (where C3 is smaller, every channel once, then a subset again). `grid`:
    side of the token grid; None is layer2's own, 32 x 32 at 256 pixels. Finer maps are averaged to it, coarser ones
    interpolated. `standardise`: the blocks see channels of mean 0 and deviation 1 over the training images (call
    `fit`), which is undone behind them, so that no blocks return the plain aggregate. Raises ValueError when the blocks
    have another width.
    """

    subset: torch.Tensor
    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(
        self,
        shapes: Sequence[tuple[int, int, int]],
        blocks: Blocks,
        *,
        grid: int | None = None,
        standardise: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        (first, _, _), (second, height, width), (third, _, _) = shapes
        if blocks.width != first + second:
            raise ValueError(f"LGFFP has {first} + {second} channels, but the blocks are {blocks.width} wide")
        self.grid = (grid, grid) if grid else (height, width)
        self.standardise = standardise
        self.origin = blocks.origin
        self.blocks = blocks.modules.requires_grad_(False)
        self.register_buffer("subset", channel_subset(third, blocks.width, seed))
        self.register_buffer("mean", torch.full((blocks.width,), torch.nan))
        self.register_buffer("deviation", torch.full((blocks.width,), torch.nan))
        self.eval()

    def train(self, mode: bool = True) -> LGFFP:
        """Stays in eval mode: a frozen part of whatever is trained around it."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, layers: Sequence[torch.Tensor]) -> torch.Tensor:
        """Maps of strides 4, 8, 16 -> (B, C1 + C2, grid, grid). Raises RuntimeError before `fit` (if `standardise`)."""
        aggregate = self.aggregate(layers)
        before, after = self._tokens(aggregate)
        change = torch.unflatten((after - before).transpose(1, 2), 2, self.grid)
        return aggregate + (change * self.deviation[:, None, None] if self.standardise else change)

    @torch.no_grad()
    def aggregate(self, layers: Sequence[torch.Tensor]) -> torch.Tensor:
        """What the blocks are given, before it is standardised: (B, C1 + C2, grid, grid)."""
        first, second, third = layers
        joined = torch.cat([resized(first, self.grid), resized(second, self.grid)], 1)
        return joined.add_(resized(third[:, self.subset], self.grid))

    @torch.no_grad()
    def fit(self, batches: Iterable[Sequence[torch.Tensor]]) -> None:
        """Mean and deviation of every channel over all positions of the training images, summed in float64."""
        count, total, squares = 0, torch.zeros_like(self.mean).double(), torch.zeros_like(self.mean).double()
        for layers in batches:
            values = self.aggregate(layers).double()
            count += values.numel() // len(self.mean)
            total += values.sum((0, 2, 3))
            squares += values.square().sum((0, 2, 3))
        variance = (squares / count - (total / count).square()).clamp(min=0)
        constant = variance <= 1e-12 * squares / count  # rounding of the difference; such a channel is only centred
        self.mean.copy_(total / count)
        self.deviation.copy_(torch.where(constant, 1, variance.sqrt()))

    @property
    def measured(self) -> dict[str, torch.Tensor]:
        """What is kept of a fit; the blocks are had again from their weights or seed."""
        return {"subset": self.subset, "mean": self.mean, "deviation": self.deviation}

    @torch.no_grad()
    def change(self, layers: Sequence[torch.Tensor]) -> torch.Tensor:
        """||out - in|| / ||in|| over the blocks, per image (B,): how far they are from doing nothing."""
        before, after = self._tokens(self.aggregate(layers))
        ratio: torch.Tensor = (after - before).flatten(1).norm(dim=1) / before.flatten(1).norm(dim=1)
        return ratio

    def _tokens(self, aggregate: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens (B, positions, width) before and behind the blocks."""
        if self.standardise:
            if self.mean.isnan().any():
                raise RuntimeError("LGFFP standardises its channels: call fit with the training features first")
            aggregate = (aggregate - self.mean[:, None, None]) / self.deviation[:, None, None]
        before = aggregate.flatten(2).transpose(1, 2).contiguous()
        return before, torch.cat([self._mixed(tokens) for tokens in torch.split(before, self._at_once(before))])

    def _mixed(self, tokens: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            tokens = block(tokens)
        return tokens

    def _at_once(self, tokens: torch.Tensor) -> int:
        """Images whose attention, of all heads of one block, takes no more than ATTENTION bytes, and at least one."""
        heads = self.blocks[0].attn.num_heads if self.blocks else 1  # type: ignore[union-attr]
        return max(1, ATTENTION // (4 * int(heads) * tokens.shape[1] ** 2))  # type: ignore[arg-type]


def channel_subset(channels: int, count: int, seed: int) -> torch.Tensor:
    """`count` of `channels` indices in ascending order, int64; each one once before any comes twice."""
    generator = torch.Generator().manual_seed(seed)
    rounds = -(-count // channels)
    drawn = torch.cat([torch.randperm(channels, generator=generator) for _ in range(rounds)])
    return drawn[:count].sort().values


def frozen_blocks(
    widths: tuple[int, int],
    *,
    name: str = "cait_m36_384",
    count: int = 11,
    weights: str = "pretrained",
    seed: int = 0,
) -> Blocks:
    """The first `count` blocks of timm's CaiT `name` for layers of `widths` channels (C1, C2).

    Where the CaiT is not C1 + C2 wide, or with weights="stand-in", blocks of that width with random weights from
    `seed`: their `origin` says so. `weights` else: `pretrained`, or a file in timm's format. Raises ValueError for a
    CaiT that is not 768 wide with the paper's 256 + 512 channels or has fewer blocks, WeightsError for weights that
    cannot be had.
    """
    import timm

    width = sum(widths)
    if not count:
        return Blocks(nn.ModuleList(), width, name)
    with torch.device("meta"):
        plan = timm.create_model(name, pretrained=False)
    if count > len(plan.blocks):
        raise ValueError(f"lgffp: {name} has {len(plan.blocks)} blocks, not {count}; ask for fewer")
    if widths == PAPER_WIDTHS and plan.embed_dim != width:
        raise ValueError(f"lgffp: 256 + 512 channels need a CaiT of width 768, {name} has {plan.embed_dim}")
    if weights == "stand-in" or plan.embed_dim != width:
        return Blocks(_stand_in(width, count, seed), width, "stand-in")
    model = _trained(timm, name, weights)
    return Blocks(nn.ModuleList(model.blocks[:count]), width, name if weights == "pretrained" else weights)


def _stand_in(width: int, count: int, seed: int) -> nn.ModuleList:
    from timm.models.cait import Cait

    heads = max(h for h in range(1, max(1, width // HEAD_WIDTH) + 1) if width % h == 0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Cait(embed_dim=width, depth=count, num_heads=heads, init_values=STAND_IN_SCALE, num_classes=0)
    return nn.ModuleList(model.blocks)


def _trained(timm: Any, name: str, weights: str) -> Any:
    mend = "give lgffp's weights a local file, or stand-in"
    if weights == "pretrained":
        with fetching(name, mend):
            return timm.create_model(name, pretrained=True)
    if not Path(weights).is_file():
        raise WeightsError(f"lgffp: no weights file {weights} (or write pretrained, or stand-in)")
    try:
        return timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": weights})
    except (OSError, RuntimeError) as error:
        raise WeightsError(f"lgffp: {weights} does not fit {name}; {mend} ({error})") from None
