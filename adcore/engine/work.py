"""How much work a step of a cell is, roughly, in images through the backbone: for progress bars and forecasts."""

from __future__ import annotations

from adcore.core.contracts import Link
from adcore.engine.cells import Cell, most_folds, unseen

LATENCY = 100.0
DECODED = 1.5  # an image that is read from its file and goes through the backbone


def enhance(link: Link, images: int) -> float:
    """Training one enhancer on so many images."""
    return DECODED * images * link.made().effort(images)


def extract(cell: Cell) -> float:
    """The features of training and test images."""
    return DECODED * (len(cell.train) + len(cell.test))


def fit(cell: Cell, share: float = 1.0) -> float:
    """`share`: work of a training step on an image, of a method that trains by epochs."""
    passes = cell.contender.method.passes(cell.contender.options)
    return len(cell.train) * (0.5 if passes is None else share * passes)


def score(cell: Cell) -> float:
    """The maps of the test images, from their features."""
    return 0.3 * len(cell.test)


def evaluate(cell: Cell) -> float:
    """The metrics and the gallery."""
    return 0.1 * len(cell.test)


def calibrate(cell: Cell, share: float = 1.0) -> float:
    """The maps of unseen normal images, and where there is no validation split the fits that lack some of the training
    images, and their enhancers. share: as of `fit`."""
    validation = len(unseen(cell.category, cell.train))
    if validation:
        return DECODED * validation + 0.3 * validation
    enhancers = sum(enhance(link, len(cell.train)) for link in cell.links)
    return (most_folds(cell.contender) - 1) * (fit(cell, share) + enhancers) + 0.3 * len(cell.train)
