"""Features held in memory: the same bits as their source's, where there is room."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from adcore import devices
from adcore.held import Held, held
from tests.conformance.accelerator import DEVICE, MEMORY, accelerator
from tests.methods.conftest import Features

SHAPES = [(5, 8, 8), (7, 4, 4)]
BYTES = 20 * 4 * (5 * 8 * 8 + 7 * 4 * 4)


@pytest.fixture
def source() -> Callable[..., Features]:
    def make(device: str = "cpu") -> Features:
        return Features([torch.randn(20, *shape, device=device) for shape in SHAPES], batch=7)

    return make


def test_what_fits_is_held_bit_by_bit(source: Callable[..., Features]) -> None:
    features = source()
    found = held(features, "cpu", BYTES / 1e9)
    assert isinstance(found, Held)
    assert len(found) == 20 and found.shapes == SHAPES
    for level, pair in enumerate(zip(*found, strict=True)):
        assert torch.equal(torch.cat(pair), features.layers[level])
    for one, other in zip(found.at([19, 0, 3]), features.at([19, 0, 3]), strict=True):
        assert torch.equal(one, other)


def test_what_does_not_fit_is_read_from_its_source(source: Callable[..., Features]) -> None:
    features = source()
    assert held(features, "cpu", (BYTES - 1) / 1e9) is features


def test_on_an_accelerator_it_lies_there_and_takes_half_of_what_is_free(source: Callable[..., Features]) -> None:
    with accelerator():
        found = held(source("cuda"), "cuda", 1.0)
        assert isinstance(found, Held)
        assert {maps.device for maps in found.maps} == {DEVICE}
        assert devices.room("cuda", 100.0) == MEMORY / 2
        assert devices.room("cuda", 0.1) == 0.1e9
