"""Features of a small, made-up backbone: three layers, each half the size of the one before."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from adcore.core.contracts import Context
from adcore.features.held import Held

SHAPES = [(5, 8, 8), (7, 4, 4), (9, 2, 2)]


@pytest.fixture
def make() -> Callable[..., Held]:
    """make(count, shapes, seed, batch) -> Held"""

    def make(count=12, shapes=SHAPES, seed=0, batch=5):
        random = torch.Generator().manual_seed(seed)
        return Held([torch.randn(count, *shape, generator=random) for shape in shapes], batch=batch)

    return make


@pytest.fixture
def context() -> Context:
    return Context(seed=0, image_size=(32, 32))
