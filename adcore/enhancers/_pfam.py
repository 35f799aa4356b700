"""PFAM of SBM+PFAM (docs/papers/sbm-pfam.md#pfam): MFCSAM behind the first and the last of a backbone's layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from adcore.enhancers._mfcsam import MFCSAM, Convolutions, Start

Combine = Literal["sum", "concat"]


class PFAM(nn.Module):
    """X1' = combine(MFCSAM(X1), Conv1x1(X1)), Xn' = MFCSAM(Xn), the layers between unchanged.

    `shapes` are (C, H, W) of the layers, the finest first; a single layer is a first one. `combine="sum"` keeps every
    shape, `concat` doubles the channels of the first, MFCSAM's before the convolution's. With `start="identity"` a new
    PFAM returns its input to the bit (`concat`: and then zeros); `start="random"` is the control with random weights.
    `seed` decides the weights; torch's global generator is left as it was.
    """

    def __init__(
        self,
        shapes: Sequence[tuple[int, int, int]],
        *,
        combine: Combine = "sum",
        convolutions: Convolutions = "grouped",
        pool_kv: int = 1,
        start: Start = "identity",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.combine = combine
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            adapted = [shapes[0], *shapes[1:][-1:]]
            self.attention = nn.ModuleList(
                MFCSAM(channels, (height, width), convolutions, pool_kv, start) for channels, height, width in adapted
            )
            self.extra = nn.Conv2d(shapes[0][0], shapes[0][0], 1, bias=False)
        if start == "identity":
            nn.init.zeros_(self.extra.weight)

    def forward(self, layers: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Maps (B, C, H, W), one per shape -> maps of the same sizes."""
        first = (self.attention[0](layers[0]), self.extra(layers[0]))
        adapted = first[0] + first[1] if self.combine == "sum" else torch.cat(first, 1)
        if len(layers) == 1:
            return [adapted]
        return [adapted, *layers[1:-1], self.attention[1](layers[-1])]
