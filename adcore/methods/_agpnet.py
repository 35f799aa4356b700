"""AGPNet's decoders, which rebuild the tokens of a frozen network (docs/papers/agpnet.md#decoder)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from adcore.methods._attention import recorded, weights
from adcore.methods._position import of_grid

DROPOUT = 0.1
RATIO = 4  # of the widths of a feed-forward network and its tokens


def decoder(
    kind: str, channels: int, grid: tuple[int, int], *, width: int, depth: int, heads: int, seed: int = 0
) -> UniADDecoder | ViTDecoder:
    """An untrained decoder for tokens of that many channels on `grid`; torch's global generator is left as it was.

    `kind`: `uniad256`, `uniad256-self`, `vit384` or `vit384-position`, of any width.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind in ("uniad256", "uniad256-self"):
            return UniADDecoder(channels, grid, width, depth, heads, tokens=kind == "uniad256")
        return ViTDecoder(channels, grid, width, depth, heads, position=kind == "vit384-position")


class UniADDecoder(nn.Module):
    """UniAD's decoder without its learned queries: tokens (B, N, channels) -> the same shape.

    `tokens`: the layers' queries are the tokens h_0; else each layer attends to itself first and to h_0 then. Four
    layers of width 256 for 384 channels on 14 x 14 have 4,415,104 parameters. With DINO's ViT-S/16 that is 5.62 G
    multiply-adds in products, attention's included (torch's FlopCounterMode), and 5.63 G, as printed, by the rules of
    fvcore, which count layer norms too. Weights start as UniAD's do.
    """

    def __init__(
        self, channels: int, grid: tuple[int, int], width: int, depth: int, heads: int, *, tokens: bool
    ) -> None:
        super().__init__()
        self.tokens = tokens
        self.inward = nn.Linear(channels, width)
        self.rows = nn.Parameter(torch.rand(grid[0], width // 2))
        self.columns = nn.Parameter(torch.rand(grid[1], width // 2))
        self.layers = nn.ModuleList(UniADLayer(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.outward = nn.Linear(width, channels)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, tokens: torch.Tensor, received: list[torch.Tensor] | None = None) -> torch.Tensor:
        """`received` gets, of each layer's first attention, how much each token is attended to: (B, N)."""
        start = before = self.inward(tokens)
        position = of_grid(self.rows, self.columns)
        for layer in self.layers:
            first, second = (start, before) if self.tokens else (before, start)
            before = layer(first, second, position, received)
        rebuilt: torch.Tensor = self.outward(self.norm(before))
        return rebuilt

    def attention(self, tokens: torch.Tensor) -> torch.Tensor:
        """How much each token is attended to, mean over queries, heads and layers: (B, N), float32."""
        received: list[torch.Tensor] = []
        self(tokens, received)
        return torch.stack(received).mean(0).float()


class UniADLayer(nn.Module):
    """Attention of `first` to itself, then to `second`, and a feed-forward network, each with its norm behind it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.own = nn.MultiheadAttention(width, heads, DROPOUT, batch_first=True)
        self.other = nn.MultiheadAttention(width, heads, DROPOUT, batch_first=True)
        self.widen = nn.Linear(width, RATIO * width)
        self.narrow = nn.Linear(RATIO * width, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.dropout = nn.Dropout(DROPOUT)

    def forward(
        self, first: torch.Tensor, second: torch.Tensor, position: torch.Tensor, received: list[torch.Tensor] | None
    ) -> torch.Tensor:
        """Tokens (B, N, width) of both -> (B, N, width)."""
        query = first + position
        attended, shares = self.own(query, query, first, need_weights=received is not None)
        if received is not None:
            received.append(shares.mean(1))
        a = self.norms[0](first + self.dropout(attended))
        attended, _ = self.other(a + position, second + position, second, need_weights=False)
        b = self.norms[1](a + self.dropout(attended))
        widened = self.dropout(functional.relu(self.widen(b)))
        out: torch.Tensor = self.norms[2](b + self.dropout(self.narrow(widened)))
        return out


class ViTDecoder(nn.Module):
    """Plain ViT blocks, the paper's words taken literally: tokens (B, N, channels) -> the same shape.

    Four blocks of width 384 for 384 channels have 7,097,856 parameters. Where `width` is not `channels`, a linear
    layer stands on either side. `position`: a learned embedding of each place is added before the blocks.
    """

    def __init__(
        self, channels: int, grid: tuple[int, int], width: int, depth: int, heads: int, *, position: bool
    ) -> None:
        from timm.layers.attention import Attention
        from timm.models.vision_transformer import Block

        super().__init__()
        same = width == channels
        self.inward: nn.Module = nn.Identity() if same else nn.Linear(channels, width)
        self.place = nn.Parameter(0.02 * torch.randn(grid[0] * grid[1], width)) if position else None
        blocks: list[Any] = [Block(width, heads, RATIO, qkv_bias=True, attn_layer=Attention) for _ in range(depth)]
        self.blocks = nn.ModuleList(blocks)
        self.outward: nn.Module = nn.Identity() if same else nn.Linear(width, channels)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens (B, N, channels) -> the same shape."""
        tokens = self.inward(tokens)
        if self.place is not None:
            tokens = tokens + self.place
        for block in self.blocks:
            tokens = block(tokens)
        rebuilt: torch.Tensor = self.outward(tokens)
        return rebuilt

    def attention(self, tokens: torch.Tensor) -> torch.Tensor:
        """How much each token is attended to, mean over queries, heads and blocks: (B, N), float32."""
        modules: list[Any] = [block.attn for block in self.blocks]
        with recorded(modules) as projected:
            self(tokens)
        found = [weights(module, one).mean((1, 2)) for module, one in zip(modules, projected, strict=True)]
        return torch.stack(found).mean(0)
