"""Normal pixels in parts: the same numbers to the bit, and memory that does not grow with the images."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from adcore.engine.evaluation import Lazy
from adcore.metrics import _normals as normals
from adcore.metrics import pixel_metrics, spro

SHAPE = (96, 128)


def score_map(index: int) -> np.ndarray:
    """Scores on few levels, so that many tie, of an image."""
    return np.random.default_rng(index).integers(0, 500, SHAPE).astype(np.float32)


def mask(index: int) -> np.ndarray:
    """One defect of 400 pixels on every second image."""
    marked = np.zeros(SHAPE, bool)
    marked[10:30, index : index + 20] = index % 2
    return marked


def regions(index: int) -> np.ndarray:
    return mask(index)[None].astype(np.uint8)[: index % 2]


def of(count: int) -> tuple[dict[str, float], float]:
    maps = Lazy(count, score_map)
    return pixel_metrics(maps, Lazy(count, mask)), spro(maps, Lazy(count, regions), None)


@pytest.mark.parametrize("held", [1, 20_000, 40_000, 10**9])
def test_parts_change_nothing(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    count = range(9)
    pixel = pixel_metrics(map(score_map, count), map(mask, count))  # all at once: iterators cannot be read again
    overlap = spro(map(score_map, count), map(regions, count), None)
    monkeypatch.setattr(normals, "HELD", held)
    assert of(9) == (pixel, overlap)


def test_iterators_are_held_whole_and_right(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = of(5)
    monkeypatch.setattr(normals, "HELD", 10)
    count = range(5)
    assert pixel_metrics(map(score_map, count), Lazy(5, mask)) == expected[0]
    assert spro(Lazy(5, score_map), map(regions, count), None) == expected[1]


def test_a_gap_in_the_parts_and_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    full, maps = np.ones((4, 4), bool), [np.arange(16.0).reshape(4, 4) + i for i in range(4)]
    masks = [full, full & (maps[1] > 12), ~full, full]  # some images have no normal pixel
    expected = pixel_metrics(iter(maps), masks)
    monkeypatch.setattr(normals, "HELD", 8)
    assert pixel_metrics(maps, masks) == expected


def test_memory_does_not_grow_with_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normals, "HELD", 4 * SHAPE[0] * SHAPE[1])

    def peak(count: int) -> int:
        tracemalloc.start()
        pixel_metrics(Lazy(count, score_map), Lazy(count, lambda index: mask(index % 2)))
        spro(Lazy(count, score_map), Lazy(count, lambda index: regions(index % 2)), None)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(96) - peak(12) < 84 * 200 * 80  # the anomalous pixels alone; the normal ones have 4 MB more


def test_a_second_pass_that_gives_less_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fading:
        """Gives one image fewer each time."""

        def __init__(self, make):
            self.make, self.count = make, 6

        def __iter__(self):
            self.count -= 1
            return map(self.make, range(self.count))

    monkeypatch.setattr(normals, "HELD", 10)
    with pytest.raises(ValueError, match="other pixels the second time"):
        pixel_metrics(Fading(score_map), Fading(mask))
