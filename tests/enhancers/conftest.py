"""A category of images whose nine tiles are all different, and extractors for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from adcore.core.contracts import Subject
from adcore.core.plan import BackboneSpec, ImageSpec
from adcore.features.extractor import Extraction, Extractor

SIDE = 48
BACKBONE, IMAGE = BackboneSpec(name="resnet18", weights="random"), ImageSpec(resize=SIDE)


def numbered(count: int, seed: int = 0) -> np.ndarray:
    """Images (N, 3, S, S) of nine tiles, each of a colour of its own, with noise."""
    rng = np.random.default_rng(seed)
    colours = np.random.default_rng(1).integers(0, 256, (3, 3, 3))
    tiles = colours.repeat(SIDE // 3, axis=1).repeat(SIDE // 3, axis=2)
    return (tiles + rng.integers(-20, 20, (count, 3, SIDE, SIDE))).clip(0, 255).astype(np.uint8)


@pytest.fixture
def subject() -> Callable[..., Subject]:
    def make(count: int = 8, **changes: Any) -> Subject:
        pixels = numbered(count)
        given: dict[str, Any] = {"texture": False, "sources": (), "threshold": None, "seed": 0} | changes
        return Subject(pixels, tuple(f"hash {n}" for n in range(count)), **given)

    return make


@pytest.fixture
def extractor() -> Callable[..., Extractor]:
    def make(*levels: int) -> Extractor:
        return Extractor(Extraction(BACKBONE, IMAGE, levels), "cpu")

    return make
