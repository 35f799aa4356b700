"""A texture and an object, drawn."""

import numpy as np
import pytest


@pytest.fixture
def texture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 96, 96), np.uint8)


@pytest.fixture
def inside() -> np.ndarray:
    """Where the object is: a disc."""
    y, x = np.mgrid[:96, :96]
    return (y - 50) ** 2 + (x - 44) ** 2 < 30**2


@pytest.fixture
def thing(inside: np.ndarray) -> np.ndarray:
    """Left half vivid; right half pale and as bright as the background. A little noise on all."""
    colours = np.where(np.arange(96) < 44, [[200], [40], [40]], [[228], [216], [150]])[:, None, :]
    clean = np.where(inside, colours, 212)
    return (clean + np.random.default_rng(1).integers(-4, 5, clean.shape)).astype(np.uint8)
