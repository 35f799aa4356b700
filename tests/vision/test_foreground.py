"""Otsu against its definition, and whether objects are found."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adcore.core.contracts import Threshold
from adcore.vision.foreground import MVTEC_AD, foreground, grey, otsu


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 255), min_size=2, max_size=60))
def test_otsu_maximises_the_variance_between_the_classes(values: list[int]) -> None:
    pixels = np.array(values, np.uint8)

    def within(threshold: int) -> float:  # least variance within is the most between
        parts = [pixels[pixels <= threshold].astype(float), pixels[pixels > threshold].astype(float)]
        return sum(((part - part.mean()) ** 2).sum() for part in parts if len(part))

    assert within(otsu(pixels)) <= min(within(threshold) for threshold in range(256)) + 1e-6


def test_a_texture_is_foreground_everywhere(texture: np.ndarray) -> None:
    assert foreground(texture, texture=True).all()


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


def test_an_object_is_found_though_half_of_it_is_as_bright_as_the_background(
    thing: np.ndarray, inside: np.ndarray
) -> None:
    assert overlap(foreground(thing, texture=False), inside) > 0.98
    values = grey(thing)
    assert abs(values[inside & (np.arange(96) >= 44)].mean() - values[~inside].mean()) < 6  # what makes it hard
    assert overlap(foreground(255 - thing, texture=False), inside) > 0.98


@pytest.mark.parametrize("bright", [True, False])
def test_a_known_threshold_of_grey_is_used_as_given(bright: bool) -> None:
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8), (3, 4, 256))
    mask = foreground(ramp, texture=False, threshold=Threshold(100, bright))
    assert (mask == ((ramp[0] > 100) if bright else (ramp[0] < 100))).all()


def test_a_blank_image_has_no_object() -> None:
    assert not foreground(np.full((3, 32, 32), 90, np.uint8), texture=False).any()


def test_the_ten_objects_of_mvtec_ad_have_thresholds() -> None:
    assert len(MVTEC_AD) == 10
    assert MVTEC_AD["bottle"] == (250, False) and MVTEC_AD["hazelnut"] == (50, True)


def test_grey_is_luma_and_keeps_greys() -> None:
    greys = np.broadcast_to(np.arange(256, dtype=np.uint8), (3, 1, 256))
    assert (grey(greys) == greys[0]).all()
    colours = np.random.default_rng(0).integers(0, 256, (3, 20, 20), np.uint8)
    np.testing.assert_allclose(grey(colours), np.tensordot([0.299, 0.587, 0.114], colours, 1), atol=1.5)
