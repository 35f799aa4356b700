"""UniAD's transformer, which rebuilds tokens from what lies around them (docs/papers/uniad.md#transformer)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from adcore.methods._position import of_grid

DROPOUT = 0.1
HEADS = 8
RATIO = 4  # of the widths of a feed-forward network and its tokens


class Rebuilder(nn.Module):
    """Neighbour-masked encoder and layer-wise query decoder: tokens (B, N, channels) of `grid` -> the same shape.

    neighbours: side of the square about a position that no attention there sees; 0: all is seen. Its weights are drawn
    from torch's global generator, as released: Xavier-uniform products with biases of zero, normal queries, positions
    from 0 to 1.
    """

    hidden: torch.Tensor | None

    def __init__(self, channels: int, grid: tuple[int, int], width: int, depth: int, neighbours: int) -> None:
        super().__init__()
        self.inward = nn.Linear(channels, width)
        self.rows = nn.Parameter(torch.rand(grid[0], width // 2))
        self.columns = nn.Parameter(torch.rand(grid[1], width // 2))
        self.encoder = nn.ModuleList(EncoderLayer(width) for _ in range(depth))
        self.decoder = nn.ModuleList(DecoderLayer(width, grid[0] * grid[1]) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.outward = nn.Linear(width, channels)
        self.register_buffer("hidden", hidden(grid, neighbours), persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, N, channels) -> the same shape."""
        position = of_grid(self.rows, self.columns)
        encoded = self.inward(tokens)
        for layer in self.encoder:
            encoded = layer(encoded, position, self.hidden)
        decoded = encoded
        for layer in self.decoder:
            decoded = layer(decoded, encoded, position, self.hidden)
        rebuilt: torch.Tensor = self.outward(self.norm(decoded))
        return rebuilt


class EncoderLayer(nn.Module):
    """Attention among the tokens and a feed-forward network, each with its norm behind it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = _attention(width)
        self.forth = _feed_forward(width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, tokens: torch.Tensor, position: torch.Tensor, hidden: torch.Tensor | None) -> torch.Tensor:
        """(B, N, width) -> the same shape."""
        placed = tokens + position
        attended, _ = self.attention(placed, placed, tokens, attn_mask=hidden, need_weights=False)
        tokens = self.norms[0](tokens + self.dropout(attended))
        out: torch.Tensor = self.norms[1](tokens + self.dropout(self.forth(tokens)))
        return out


class DecoderLayer(nn.Module):
    """A learned query for each position, which looks at the encoder's tokens first and at those of the layer before
    then, and a feed-forward network; each with its norm behind it."""

    def __init__(self, width: int, positions: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(positions, width))
        self.encoded = _attention(width)
        self.before = _attention(width)
        self.forth = _feed_forward(width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.dropout = nn.Dropout(DROPOUT)

    def forward(
        self, before: torch.Tensor, encoded: torch.Tensor, position: torch.Tensor, hidden: torch.Tensor | None
    ) -> torch.Tensor:
        """Tokens (B, N, width) of the layer before and of the encoder -> (B, N, width)."""
        out: torch.Tensor = self.queries.expand_as(encoded)
        for attention, seen, norm in ((self.encoded, encoded, self.norms[0]), (self.before, before, self.norms[1])):
            attended, _ = attention(out + position, seen + position, seen, attn_mask=hidden, need_weights=False)
            out = norm(out + self.dropout(attended))
        out = self.norms[2](out + self.dropout(self.forth(out)))
        return out


def _attention(width: int) -> nn.MultiheadAttention:
    return nn.MultiheadAttention(width, HEADS, DROPOUT, batch_first=True)


def _feed_forward(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, RATIO * width), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(RATIO * width, width)
    )


def hidden(grid: tuple[int, int], neighbours: int) -> torch.Tensor | None:
    """(N, N): where a position (row) does not see another (column), which lies in the square of that side about it.

    On a grid so small that the square would hide everything from some position it is the largest that does not; None
    where nothing is hidden.
    """
    reach = min(neighbours // 2, max(grid) // 2 - 1) if neighbours else -1
    if reach < 0:
        return None
    rows, columns = (torch.arange(side)[:, None] - torch.arange(side) for side in grid)
    near: torch.Tensor = (rows.abs() <= reach)[:, None, :, None] & (columns.abs() <= reach)[None, :, None, :]
    return near.flatten(2).flatten(0, 1)


def joined(maps: list[torch.Tensor], grid: tuple[int, int]) -> torch.Tensor:
    """Maps (B, C, H, W), each on `grid` (bilinear with aligned corners and without averaging, as released) and side by
    side, as tokens: (B, N, sum of C)."""
    alike = [functional.interpolate(one, size=grid, mode="bilinear", align_corners=True) for one in maps]
    return torch.cat(alike, 1).flatten(2).transpose(1, 2)


def jittered(tokens: torch.Tensor, scale: float) -> torch.Tensor:
    """Tokens (B, N, C) with normal noise, the deviation of which is `scale` times the token's length over C."""
    deviation: torch.Tensor = scale * tokens.norm(dim=2, keepdim=True) / tokens.shape[2]
    return tokens + deviation * torch.randn_like(tokens)


def anomaly_map(
    tokens: torch.Tensor, rebuilt: torch.Tensor, grid: tuple[int, int], size: tuple[int, int]
) -> torch.Tensor:
    """The distance of tokens (B, N, C) and what was made of them, enlarged so that its corners are those of the image:
    (B, H, W)."""
    far = (tokens - rebuilt).norm(dim=2).unflatten(1, grid)
    return functional.interpolate(far[:, None], size=size, mode="bilinear", align_corners=True)[:, 0]
