"""The epoch that counts where it is not the last: the best on images that the training does not see.

On test images it is what the code of some papers keeps; only to compare with it
(docs/papers/hosts.md#metrics-and-the-epoch-that-counts).
"""

from __future__ import annotations

import torch
from torch import nn


class BestEpoch(nn.Module):
    """A copy of a module's state at its best so far. A module itself, so that a training's checkpoint holds it."""

    value: torch.Tensor

    def __init__(self, learned: nn.Module) -> None:
        super().__init__()
        self.register_buffer("value", torch.tensor(-torch.inf))
        for place, tensor in enumerate(learned.state_dict().values()):
            self.register_buffer(f"copy{place}", tensor.detach().clone())

    @torch.no_grad()
    def offer(self, value: float, learned: nn.Module) -> None:
        """Keep the state if `value` is higher than all before; of equals the first stays."""
        if value > self.value:
            self.value.fill_(value)
            for place, tensor in enumerate(learned.state_dict().values()):
                self.get_buffer(f"copy{place}").copy_(tensor)

    @torch.no_grad()
    def give_back(self, learned: nn.Module) -> None:
        """Set the state to what was best."""
        for place, tensor in enumerate(learned.state_dict().values()):
            tensor.copy_(self.get_buffer(f"copy{place}"))
