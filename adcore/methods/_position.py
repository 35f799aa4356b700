"""Learned positions of the tokens of a grid."""

from __future__ import annotations

import torch


def of_grid(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Half a width for each row (H, w) and for each column (W, w) -> (H W, 2 w): the column's half, then the row's."""
    height, width = len(rows), len(columns)
    across = columns[None].expand(height, width, -1)
    down = rows[:, None].expand(height, width, -1)
    return torch.cat([across, down], 2).flatten(0, 1)
