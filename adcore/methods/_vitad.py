"""ViTAD's decoder: a plain ViT that rebuilds the maps of a frozen one in reverse (docs/papers/vitad.md)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from timm.models.vision_transformer import Block
from torch import nn

from adcore.core.contracts import Maps, Shape
from adcore.vision.maps import resized

HEAD = 64  # width of a head, as that of every ViT of the paper
WIDTH = 384  # of tokens where maps have several numbers of channels: that of ViT-S
RATIO = 4  # of the widths of a feed-forward network and its tokens
EPSILON = 1e-6
DEVIATION = 0.02  # of initial weights


class Decoder(nn.Module):
    """The last map, through a linear layer (the fusion neck), as tokens; then `blocks` ViT blocks for each other map,
    the last of which is rebuilt first.

    shapes: (C, H, W) of all maps read; a single map is rebuilt from itself. Tokens stand on the grid of the last map
    that is rebuilt. width: of the tokens; None: the channels that all maps have, else WIDTH. Where a map has other
    channels than the tokens a linear layer stands behind its stage. Weights are drawn from torch's global generator.
    """

    layout: torch.Tensor

    def __init__(self, shapes: Sequence[Shape], width: int | None, blocks: int) -> None:
        super().__init__()
        rebuilt = list(shapes[:-1]) or list(shapes)
        self.grid = rebuilt[-1][1:]
        alike = len({channels for channels, _, _ in shapes}) == 1
        width = width or (shapes[0][0] if alike else WIDTH)
        # A part of the state, which alone tells how the decoder was made.
        self.register_buffer("layout", torch.tensor([list(shape) for shape in shapes]))
        self.fuse = nn.Linear(shapes[-1][0], width)
        self.position = nn.Parameter(
            nn.init.trunc_normal_(torch.empty(self.grid[0] * self.grid[1], width), std=DEVIATION)
        )
        make = partial(Block, width, heads(width), RATIO, qkv_bias=True, norm_layer=partial(nn.LayerNorm, eps=EPSILON))
        self.stages = nn.ModuleList(nn.Sequential(*(make() for _ in range(blocks))) for _ in rebuilt)
        self.outward = nn.ModuleList(
            nn.Identity() if channels == width else nn.Linear(width, channels) for channels, _, _ in reversed(rebuilt)
        )
        for module in self.stages.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=DEVIATION)
                nn.init.zeros_(module.bias)

    def forward(self, maps: Maps) -> Maps:
        """All maps read (B, C, H, W), of which the last is used -> what is rebuilt of the others, on `grid`."""
        tokens = self.fuse(resized(maps[-1], self.grid).flatten(2).transpose(1, 2)) + self.position
        rebuilt: Maps = []
        for stage, outward in zip(self.stages, self.outward, strict=True):
            tokens = stage(tokens)
            rebuilt.insert(0, outward(tokens).transpose(1, 2).unflatten(2, self.grid))
        return rebuilt

    def targets(self, maps: Maps) -> Maps:
        """Of all maps read those to be rebuilt, on `grid`: averaged where they are finer."""
        return [resized(one, self.grid) for one in maps[:-1] or maps]


def heads(width: int) -> int:
    """Heads of HEAD channels each; fewer where they do not share the width evenly."""
    return next(count for count in range(max(1, width // HEAD), 0, -1) if width % count == 0)


def made(state: dict[str, torch.Tensor], blocks: int) -> Decoder:
    """The decoder that a state is of."""
    shapes = [(channels, height, width) for channels, height, width in state["layout"].tolist()]
    with torch.device("meta"):  # no weights are drawn that are then replaced
        decoder = Decoder(shapes, len(state["fuse.bias"]), blocks)
    decoder.load_state_dict(state, assign=True)
    return decoder
