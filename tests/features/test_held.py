"""Features held on an accelerator: the same bits as their source's, where there is room."""

from __future__ import annotations

import torch

from adcore.core import devices
from adcore.features.held import Held, held
from tests.conformance.accelerator import DEVICE, MEMORY, accelerator

SHAPES = [(5, 8, 8), (7, 4, 4)]
BYTES = 20 * 4 * (5 * 8 * 8 + 7 * 4 * 4)


def source(device: str = "cpu") -> Held:
    return Held([torch.randn(20, *shape, device=device) for shape in SHAPES], batch=7)


def test_what_fits_an_accelerator_is_held_there_bit_by_bit() -> None:
    with accelerator():
        features = source("cuda")
        found = held(features, "cuda", BYTES / 1e9)
        assert isinstance(found, Held)
        assert found is not features
        assert len(found) == 20
        assert found.shapes == SHAPES
        assert {maps.device for maps in found.maps} == {DEVICE}
        for level, batches in enumerate(zip(*found, strict=True)):
            assert torch.equal(torch.cat(batches), features.maps[level])
        for one, other in zip(found.at([19, 0, 3]), features.at([19, 0, 3]), strict=True):
            assert torch.equal(one, other)


def test_what_does_not_fit_is_read_from_its_source() -> None:
    with accelerator():
        features = source("cuda")
        assert held(features, "cuda", (BYTES - 1) / 1e9) is features


def test_on_the_host_it_is_read_from_its_source() -> None:
    features = source()
    assert held(features, "cpu", 1.0) is features


def test_half_of_what_is_free_is_left_to_the_network() -> None:
    with accelerator():
        assert devices.room("cuda", 100.0) == MEMORY / 2
        assert devices.room("cuda", 0.1) == 0.1e9
    assert devices.room("cpu", 100.0) == 100e9
