"""Parameters and multiply-accumulates of a method and of what stands before it (docs/papers/hosts.md#sizes)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from adcore.core.contracts import Network
from adcore.features.extractor import Extractor

COUNTER = "torch.utils.flop_counter, halved: convolutions, linear maps and attention products"
ATTENTION = ("aten.bmm", "aten.baddbmm")


@dataclass(frozen=True)
class Macs:
    """Multiply-accumulates of one image: of convolutions and linear maps, and of attention's products."""

    linear: int
    attention: int

    @property
    def total(self) -> int:
        return self.linear + self.attention

    def __add__(self, other: Macs) -> Macs:
        return Macs(self.linear + other.linear, self.attention + other.attention)


@dataclass(frozen=True)
class Size:
    """Of one image at inference. learnable: parameters that the method itself trains. total: with the backbone up to
    the last level read, and with enhancers. Distances to a memory or to Gaussians are in no count."""

    learnable: int
    total: int
    before: Macs  # of the extractor
    own: Macs

    @property
    def columns(self) -> dict[str, int]:
        """As the leaderboard shows it."""
        macs = (self.before + self.own).total
        return {"learnable_params": self.learnable, "total_params": self.total, "macs": macs}


def size(extractor: Extractor, network: Network | None) -> Size:
    """Of an extractor and what a method runs behind it (Method.sized), counted by one run of each."""
    own = list(network.module.parameters()) if network else []
    image = torch.zeros(1, 3, extractor.size, extractor.size, dtype=torch.uint8)
    return Size(
        sum(parameter.numel() for parameter in own if parameter.requires_grad),
        sum(parameter.numel() for parameter in own) + parameters(extractor.model) + parameters(extractor.added),
        counted(lambda: extractor(image)),
        counted(network.run) if network else Macs(0, 0),
    )


def parameters(module: nn.Module) -> int:
    """Learnable or not."""
    return sum(parameter.numel() for parameter in module.parameters())


def counted(run: Callable[[], Any]) -> Macs:
    """Multiply-accumulates of a run; attention is done by plain products, since a fused kernel hides them."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            run()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    found = {str(op): flops // 2 for op, flops in counter.get_flop_counts().get("Global", {}).items()}
    attention = sum(macs for op, macs in found.items() if op in ATTENTION)
    return Macs(sum(found.values()) - attention, attention)
