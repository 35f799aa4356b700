"""Features of a small, made-up backbone: three layers, each half the size of the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest
import torch

from adcore.methods.base import Context

SHAPES = [(5, 8, 8), (7, 4, 4), (9, 2, 2)]


class Features:
    """A FeatureSource over tensors held in memory."""

    def __init__(self, layers: list[torch.Tensor], batch: int) -> None:
        self.layers = layers
        self.batch = batch

    def __len__(self) -> int:
        return len(self.layers[0])

    def __iter__(self) -> Iterator[list[torch.Tensor]]:
        return zip(*(layer.split(self.batch) for layer in self.layers), strict=True)

    def at(self, indices: Sequence[int]) -> list[torch.Tensor]:
        return [layer[list(indices)] for layer in self.layers]

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        return [tuple(layer.shape[1:]) for layer in self.layers]


@pytest.fixture
def make() -> Callable[..., Features]:
    """make(count, shapes, seed, batch) -> Features"""

    def make(count=12, shapes=SHAPES, seed=0, batch=5):
        random = torch.Generator().manual_seed(seed)
        return Features([torch.randn(count, *shape, generator=random) for shape in shapes], batch)

    return make


@pytest.fixture
def context() -> Context:
    return Context(seed=0, image_size=(32, 32))
