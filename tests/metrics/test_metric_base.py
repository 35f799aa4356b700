"""Metrics as plug-ins: what several read is read once, and an own reader walks beside the others."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from adcore.core.columns import Column
from adcore.engine import registry
from adcore.engine.evaluation import Lazy
from adcore.metrics import image_metrics, pixel_metrics, spro
from adcore.metrics.base import Images, Masked, Metric, Reader, Regions, Scored, values

SHAPE = (24, 32)


class Counted:
    """Maps, masks and regions of noise; counts how often each is made."""

    def __init__(self, count: int = 6) -> None:
        self.count = count
        self.made: dict[str, int] = {"map": 0, "mask": 0, "region": 0}

    def map(self, index: int) -> np.ndarray:
        self.made["map"] += 1
        return np.random.default_rng(index).integers(0, 40, SHAPE).astype(np.float32)

    def mask(self, index: int) -> np.ndarray:
        self.made["mask"] += 1
        mask = np.zeros(SHAPE, bool)
        mask[4:10, index : index + 7] = index % 2
        return mask

    def region(self, index: int) -> np.ndarray:
        self.made["region"] += 1
        mask = np.zeros((index % 2, *SHAPE), np.uint8)
        mask[:, 4:10, index : index + 7] = 255
        return mask

    @property
    def scores(self) -> list[float]:
        return [0.1, 0.7, 0.2, 0.6, 0.65, 0.9][: self.count]

    @property
    def labels(self) -> list[int]:
        return [index % 2 for index in range(self.count)]

    def seen(self) -> list[Images]:
        maps, masks, regions = (Lazy(self.count, make) for make in (self.map, self.mask, self.region))
        return [Scored(self.scores, self.labels), Masked(maps, masks), Regions(maps, regions)]


class Brightest(Reader[float]):
    """The largest score of any pixel."""

    sees = Masked

    def __init__(self, images: Masked) -> None:
        super().__init__(images)
        self.largest = -math.inf

    def add(self, scores: np.ndarray, truth: np.ndarray) -> None:
        self.largest = max(self.largest, float(scores.max()))

    def result(self) -> float:
        return self.largest


class Peak(Metric[float]):
    column = Column("peak", "peak", "largest score of any pixel", unit="", digits=3)
    reads = Brightest

    def value(self, read: float) -> float:
        return read


def test_every_metric_is_that_of_the_function_of_its_name() -> None:
    case = Counted()
    maps, masks, regions = ([make(i) for i in range(6)] for make in (case.map, case.mask, case.region))
    expected = image_metrics(case.scores, case.labels) | pixel_metrics(maps, masks)
    expected |= {"spro": spro(maps, regions, None), "aupro05": pixel_metrics(maps, masks, 0.05)["aupro"]}
    assert set(expected) <= set(registry.metrics())
    assert values({name: registry.metrics()[name] for name in expected}, case.seen()) == expected


def test_maps_and_masks_are_made_once_for_all_metrics_and_a_foreign_one() -> None:
    case = Counted()
    every: dict[str, Metric[Any]] = {**registry.metrics(), "peak": Peak()}
    found = values(every, case.seen())
    assert found["peak"] == max(Counted().map(i).max() for i in range(6))
    assert case.made == {"map": 12, "mask": 6, "region": 6}  # maps at two resolutions: that of masks is another


def test_what_no_metric_reads_is_not_made() -> None:
    case = Counted()
    values({"i_ap": registry.metrics()["i_ap"]}, case.seen())
    assert case.made == {"map": 0, "mask": 0, "region": 0}


@pytest.mark.parametrize("name", registry.modules("metrics"))
def test_without_its_images_a_metric_is_empty(name: str) -> None:
    assert math.isnan(values({name: registry.metrics()[name]}, [])[name])


@pytest.mark.parametrize("name", registry.modules("metrics"))
def test_a_metric_of_one_class_is_empty(name: str) -> None:
    zero = np.zeros(SHAPE)
    seen = [Scored([0.5, 0.6], [0, 0]), Masked([zero], [zero > 0]), Regions([zero], [np.zeros((0, *SHAPE), np.uint8)])]
    assert math.isnan(values({name: registry.metrics()[name]}, seen)[name])
