"""The epoch that is best on the test images: what the code of some papers keeps; only to compare with it.

Whose: docs/papers/hosts.md#metrics-and-the-epoch-that-counts.
"""

from __future__ import annotations

import torch
from torch import nn


class BestEpoch(nn.Module):
    """A copy of the parameters at their best so far. A module, so that a training's checkpoint holds it."""

    value: torch.Tensor

    def __init__(self, learned: nn.ParameterList) -> None:
        super().__init__()
        self.register_buffer("value", torch.tensor(-torch.inf))
        self.copies = nn.ParameterList(nn.Parameter(tensor.detach().clone(), requires_grad=False) for tensor in learned)

    @torch.no_grad()
    def offer(self, value: float, learned: nn.ParameterList) -> None:
        """Keep the parameters if `value` is higher than all before; of equals the first stays."""
        if value > self.value:
            self.value.fill_(value)
            for copy, tensor in zip(self.copies, learned, strict=True):
                copy.copy_(tensor)

    @torch.no_grad()
    def give_back(self, learned: nn.ParameterList) -> None:
        """Set the parameters to what was best."""
        for copy, tensor in zip(self.copies, learned, strict=True):
            tensor.copy_(copy)
