"""Masks at the network's resolution: bit-equal to the published way where defects survive, and none is lost."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from adcore.vision.images import crop_box
from adcore.vision.reduction import lost, reduced, view


def published(mask: np.ndarray, resize: int, crop: int) -> np.ndarray:
    """As the papers' codes do: Pillow's nearest neighbour, then the centre."""
    small = Image.fromarray(mask.astype(np.uint8) * 255).resize((resize, resize), Image.Resampling.NEAREST)
    return np.asarray(small)[crop_box(resize, resize, resize, crop)] > 0


def coverage(mask: np.ndarray, resize: int) -> np.ndarray:
    """How much of each pixel a mask covers, by repeating pixels up to the least common multiple of the sides."""
    height, width = (math.lcm(side, resize) for side in mask.shape)
    large = np.kron(mask, np.ones((height // mask.shape[0], width // mask.shape[1])))
    return large.reshape(resize, height // resize, resize, width // resize).mean(axis=(1, 3))


masks = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).random(np.random.default_rng(seed).integers(3, 40, 2)) < 0.02
)


@settings(deadline=None, max_examples=60)
@given(masks, st.integers(4, 24), st.data())
def test_by_default_it_is_the_published_way_unless_that_leaves_nothing_of_what_is_seen(mask, resize, data):
    crop = data.draw(st.integers(2, resize))
    expected, small = published(mask, resize, crop), reduced(mask, resize, crop, "nearest")
    if expected.any():
        assert np.array_equal(small, expected)
    else:
        covered = coverage(mask, resize)[crop_box(resize, resize, resize, crop)].any()
        assert small.any() == (covered and mask[view(mask, resize, crop)].any())


@settings(deadline=None, max_examples=60)
@given(masks, st.integers(4, 24))
def test_by_area_every_pixel_is_covered_and_every_region_keeps_one(mask, resize):
    small = reduced(mask, resize, resize, "area")
    share = coverage(mask, resize)
    assert not small[share == 0].any()
    assert small.any() == mask.any()


@pytest.mark.parametrize(("side", "resize"), [(40, 10), (30, 20), (7, 21), (25, 10)])
def test_a_large_region_marks_what_it_covers_by_half(side: int, resize: int) -> None:
    mask = np.zeros((side, side), bool)
    mask[side // 4 : side - 3, side // 3 : side - 2] = True
    assert np.array_equal(reduced(mask, resize, resize, "area"), coverage(mask, resize) >= 0.5 - 1e-9)


def test_a_thin_line_stays_one_line() -> None:
    mask = np.zeros((640, 640), bool)
    mask[101, 50:600] = True
    assert not published(mask, 64, 64).any()
    small = reduced(mask, 64, 64, "nearest")
    assert small.any(axis=0).sum() == 55
    assert small.any(axis=1).sum() == 1


def test_lost_counts_the_regions_that_are_in_sight_and_leave_no_pixel() -> None:
    mask = np.zeros((640, 640), bool)
    mask[304:307, 304:307] = True  # holds pixel 305, which nearest neighbour takes
    mask[100:103, 200:203] = True
    mask[0:2, 0:2] = True  # outside of a crop of 56
    assert lost(mask, 64, 64) == (2, 3)
    assert lost(mask, 64, 56) == (1, 2)
    assert reduced(mask, 64, 64, "nearest").sum() == 1
    assert reduced(mask, 64, 64, "area").sum() == 3
