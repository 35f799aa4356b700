"""What a metric is: a column, what it reads of a cell's test images, and one number of that.

A cell's test images can be seen in three ways: `Scored`, `Masked` and `Regions`. A reader goes over one of them once,
for all metrics that name it in `reads`. A metric that wants something else of the images brings a reader of its own,
which is given each image together with the others.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from numpy.typing import ArrayLike, NDArray

from adcore.core.columns import Column
from adcore.metrics._inputs import map_channel_pairs, map_mask_pairs
from adcore.metrics._normals import once
from adcore.metrics._ranking import Floats

Result = TypeVar("Result")
Config = Sequence[Mapping[str, Any]]
Pairs = Iterator[tuple[Floats, NDArray[Any]]]


class Images:
    """The test images of a cell, seen in one way; to be gone through image by image."""

    def __iter__(self) -> Pairs:
        """(H, W) scores of each image, and what is true of its pixels; nothing where there are image scores only."""
        return iter(())


@dataclass(frozen=True)
class Scored(Images):
    """One score an image. scores: (N,) finite, higher is more anomalous. labels: (N,) > 0 is anomalous."""

    scores: ArrayLike
    labels: ArrayLike


@dataclass(frozen=True)
class _Mapped(Images):
    """maps: (H, W) scores an image, sizes may differ. truths: what is true of their pixels."""

    maps: Iterable[ArrayLike]
    truths: Iterable[ArrayLike]

    @property
    def repeatable(self) -> bool:
        """Whether they can be gone through a second time."""
        return not once(self.maps, self.truths)


class Masked(_Mapped):
    """Maps and masks, at the resolution that the plan judges at. truths: (H, W) > 0 is anomalous."""

    def __iter__(self) -> Pairs:
        return map_mask_pairs(self.maps, self.truths)


@dataclass(frozen=True)
class Regions(_Mapped):
    """Maps and defect regions, at the resolution of the mask files. truths: (C, H, W) integers, a region each.

    config: what saturates a region, by its value."""

    config: Config | None = None

    def __iter__(self) -> Pairs:
        return map_channel_pairs(self.maps, self.truths)


class Reader(ABC, Generic[Result]):
    """Goes over the test images once, for all metrics that read it."""

    sees: ClassVar[type[Images]]

    def __init__(self, images: Any) -> None:
        """images: one of the kind that it sees."""
        self.images = images

    def add(self, scores: Floats, truth: NDArray[Any]) -> None:
        """Take in one image. scores: (H, W). truth: what is true of its pixels, as the kind of images has it."""

    @abstractmethod
    def result(self) -> Result | None:
        """What metrics are made of; None where nothing can be said, as without defects: metrics are then NaN."""

    @classmethod
    def read(cls, images: Images) -> Result | None:
        """All of the images, read by this reader alone."""
        reader = cls(images)
        for scores, truth in images:
            reader.add(scores, truth)
        return reader.result()


class Metric(ABC, Generic[Result]):
    """A number of a cell. column: how it is shown; its name is the file's and stands in plans.

    rules: what the number depends on beside the images; recorded with every cell."""

    column: ClassVar[Column]
    rules: ClassVar[Mapping[str, Any]] = {}
    reads: type[Reader[Result]]

    @abstractmethod
    def value(self, read: Result) -> float:
        """The number, of what its reader has read."""


def values(metrics: Mapping[str, Metric[Any]], seen: Sequence[Images]) -> dict[str, float]:
    """Each metric's number, by name: NaN where its images are not among those `seen`, or say nothing.

    All images of a kind are gone through once, whatever reads them, and what was read of one kind is let go before the
    next."""
    numbers = dict.fromkeys(metrics, math.nan)
    for images in seen:
        own = {name: metric for name, metric in metrics.items() if metric.reads.sees is type(images)}
        results = _read({metric.reads for metric in own.values()}, images)
        numbers |= {name: _value(metric, results[metric.reads]) for name, metric in own.items()}
    return numbers


def _read(kinds: set[type[Reader[Any]]], images: Images) -> dict[type[Reader[Any]], Any]:
    readers = {kind: kind(images) for kind in kinds}
    for scores, truth in images if readers else ():
        for reader in readers.values():
            reader.add(scores, truth)
    return {kind: reader.result() for kind, reader in readers.items()}


def _value(metric: Metric[Any], read: Any) -> float:
    return math.nan if read is None else metric.value(read)
