"""Likeness against naive twins, on surfaces photographed again, and on pieces that are only made alike."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from adcore.kernels import likeness as kernel
from adcore.kernels.likeness import SIDE, likeness
from benchmarks import leaks


def noise(seed: int, blur: float = 1.5) -> np.ndarray:
    """A surface of mean 120 and deviation 25, (SIDE, SIDE)."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(SIDE, SIDE)), blur, mode="wrap")
    return 120 + 25 * field / field.std()


def grey(scenes: list[np.ndarray]) -> np.ndarray:
    return np.clip(np.stack(scenes), 0, 255).astype(np.uint8)


def twins(kin: list[kernel.Kin], place: int) -> set[int]:
    return set(kin[place].alike.tolist())


def test_correlation_is_pearsons() -> None:
    rng = np.random.default_rng(0)
    one, others = rng.normal(size=(9, 7)).astype(np.float32), rng.normal(size=(5, 9, 7)).astype(np.float32)
    expected = [np.corrcoef(one.ravel(), other.ravel())[0, 1] for other in others]
    np.testing.assert_allclose(kernel._correlation(one, others), expected, atol=1e-6)


def test_what_is_flat_correlates_with_nothing() -> None:
    one, flat = np.eye(5, dtype=np.float32), np.full((2, 5, 5), 3, np.float32)
    assert kernel._correlation(one, flat).tolist() == [0, 0]
    assert kernel._correlation(flat[0], one[None]).tolist() == [0]


@pytest.mark.parametrize("shift", [(0.0, 0.0), (3.25, -5.5), (-6.375, 1.125)])
def test_registration_undoes_a_shift_by_parts_of_a_pixel(shift: tuple[float, float]) -> None:
    scene = (noise(1) - 120).astype(np.float32)
    frequencies = np.fft.fftfreq(SIDE)
    phases = np.exp(-2j * np.pi * (shift[0] * frequencies[:, None] + shift[1] * frequencies))
    moved = np.fft.ifft2(np.fft.fft2(scene) * phases).real.astype(np.float32)
    (back,) = kernel._registered(scene, moved[None])
    inside = scene[kernel._INSIDE, kernel._INSIDE]
    # The window draws the peak by an eighth of a pixel at most.
    assert np.corrcoef(back.ravel(), inside.ravel())[0, 1] > 0.99


def test_neighbours_are_those_of_a_plain_search() -> None:
    pictures = grey([noise(seed) for seed in range(40)])
    detail = kernel._detail(pictures.astype(np.float32))
    test = np.arange(40) < 15
    small = (detail * kernel._WINDOW).reshape(40, kernel.COARSE, 3, kernel.COARSE, 3).mean(axis=(2, 4))
    for row, others in enumerate(kernel._nearest(detail, test)[:4]):
        alike = np.array([-np.inf if other == row else plain(small[row], small[other]) for other in range(40)])
        for side in (test, ~test):
            order = np.flatnonzero(side)[np.argsort(-alike[side])]
            assert set(others[side[others]]) == set(order[: kernel.NEAREST])


def plain(one: np.ndarray, other: np.ndarray) -> float:
    """The largest cosine over whole shifts."""
    steps = range(-kernel.STEPS, kernel.STEPS + 1)
    shifted = [np.roll(one, (down, across), (0, 1)) for down in steps for across in steps]
    return float(max((image * other).sum() for image in shifted) / np.linalg.norm(one) / np.linalg.norm(other))


def test_light_and_contrast_change_little() -> None:
    scenes = [noise(seed) for seed in range(20)]
    ramp = np.linspace(0.5, 1, SIDE)
    pictures = grey([*scenes, 0.5 * scenes[0], 40 + 0.8 * scenes[1], scenes[2] * ramp])
    kin = likeness(pictures, np.arange(23) >= 20)
    assert [twins(kin, place) for place in (20, 21, 22)] == [{0}, {1}, {2}]
    assert not twins(kin, 5)


def test_what_pieces_have_in_common_is_no_twin() -> None:
    """A deep pattern that all share, in register, under grain of their own."""
    pattern = 40 * np.sign(np.sin(np.arange(SIDE) / 5))[:, None] * np.sign(np.sin(np.arange(SIDE) / 7))
    pieces = [pattern + 120 + (noise(seed) - 120) / 3 for seed in range(30)]
    again = 0.7 * pieces[4] + np.random.default_rng(9).normal(0, 1, (SIDE, SIDE))
    kin = likeness(grey([*pieces, again]), np.arange(31) >= 20)
    assert twins(kin, 30) == {4}
    assert not any(twins(kin, place) for place in range(30) if place != 4)


def test_too_few_or_flat_pictures_are_like_nothing() -> None:
    few = likeness(grey([noise(1), noise(1), noise(2)]), np.array([True, False, False]))
    assert [one.measure for one in few] == [math.inf] * 3
    flat = likeness(np.full((8, SIDE, SIDE), 90, np.uint8), np.arange(8) < 3)
    assert [one.measure for one in flat] == [math.inf] * 8


def test_many_are_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures, test = grey([noise(seed % 12) for seed in range(18)]), np.arange(18) < 6
    whole = likeness(pictures, test)
    monkeypatch.setattr(kernel, "ROWS", 5)
    for one, other in zip(likeness(pictures, test), whole, strict=True):
        np.testing.assert_array_equal(one.others, other.others)
        np.testing.assert_allclose(one.shares, other.shares, atol=1e-5)


SURFACES = ["brick", *(pytest.param(name, marks=pytest.mark.slow) for name in ("gravel", "smooth"))]


@pytest.mark.parametrize("name", SURFACES)
def test_six_exposures_dealt_out_at_random_are_found(name: str) -> None:
    dealt = leaks.exposures(name, at_random=True)
    assert dealt.twinned.sum() >= 45
    assert leaks.adcore(dealt)[dealt.twinned].mean() >= 0.9


@pytest.mark.parametrize("name", SURFACES)
def test_six_exposures_dealt_out_by_surface_are_not(name: str) -> None:
    dealt = leaks.exposures(name, at_random=False)
    assert not dealt.twinned.any()
    assert leaks.adcore(dealt).mean() < 0.02
