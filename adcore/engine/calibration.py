"""Scores of normal images by models that have not seen them: of the validation split where a dataset has one, else of
training images left out in turn (cross-fitting).

Never those of the images that a model was fitted on: a memory bank finds each of its own patches at a distance of
nearly zero."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pandas as pd
import torch

from adcore.core.contracts import ImageMethod, Maps, Method, Progress, Shape, silent
from adcore.core.costs import measured
from adcore.engine import evaluation
from adcore.engine.calibrated import FILE
from adcore.engine.cells import Cell, contents, folds, linked, most_folds, unseen
from adcore.engine.compute import Computer
from adcore.engine.enhancement import image_set
from adcore.features.bank import Live, Mapped, Pictures
from adcore.features.extractor import BATCH
from adcore.vision.maps import postprocess


class Calibrator(Computer):
    """Fits models again that lack some of the training images, and keeps their scores of those alone."""

    def calibrate(self, cell: Cell, progress: Progress) -> None:
        """Score unseen normal images: `scores.parquet`. Raises ValueError where a score is not finite."""
        with self.store.lock(cell.calibration_key):
            if self.store.has("calibration", cell.calibration_key):
                return
            parts = list(_parts(cell))
            found = []
            with measured() as cost:
                for place, part in enumerate(parts):
                    found.append(self._scored(part, cell))
                    progress((place + 1) / len(parts))
            meta = {**self._environment, "names": cell.names, "calibrate_s": cost.seconds, "peak_mb": cost.peak_mb}
            with self.store.write("calibration", cell.calibration_key, meta) as folder:
                pd.concat(found, ignore_index=True).to_parquet(folder / FILE, index=False)
            self._forget_checkpoints(cell.calibration_key)

    def _scored(self, part: Cell, whole: Cell) -> pd.DataFrame:
        """category, score and peak of the part's test images."""
        method = self._fitted(whole).method if part.fit_key == whole.fit_key else self._without(part, whole)
        maps, scores = evaluation.score(method, self._of(part, whole, "test"), silent)
        size = (part.image.size, part.image.size)
        peaks = [
            postprocess(torch.from_numpy(maps[start : start + BATCH]), size, method.smoothing).flatten(1).amax(1)
            for start in range(0, len(maps), BATCH)
        ]
        rows = {"category": part.test["category"].to_numpy(), "score": scores, "peak": torch.cat(peaks).numpy()}
        return pd.DataFrame(rows)

    def _without(self, part: Cell, whole: Cell) -> Method:
        """A method that is fitted on the part's training images."""
        for link in part.links:
            self.enhance(part, link.key, silent)
        method = self._method(part)
        method.fit(self._of(part, whole, "train"), silent)
        return method

    def _of(self, part: Cell, whole: Cell, which: str) -> Pictures | Mapped | Live | Some:
        """What a method sees of the part's images; their features from those of all training images where they are the
        same."""
        trained = {content: place for place, content in enumerate(contents(whole.train))}
        wanted = contents(part.train if which == "train" else part.test)
        alike = part.links == whole.links and not issubclass(whole.contender.method, ImageMethod)
        if not alike or not trained.keys() >= set(wanted):
            return self._source(part, which)
        pictures = Pictures(image_set(part, which), part.image, self.device)
        source = self._source(whole, "train")
        assert not isinstance(source, Pictures)
        return Some(source, [trained[content] for content in wanted], pictures)


class Some:
    """FeatureSource of some images of another, by their places in it."""

    def __init__(self, source: Mapped | Live, places: Sequence[int], images: Pictures) -> None:
        self.source = source
        self.places = places
        self.images = images

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[Maps]:
        for start in range(0, len(self), BATCH):
            yield self.source.at(self.places[start : start + BATCH])

    def at(self, indices: Sequence[int]) -> Maps:
        return self.source.at([self.places[index] for index in indices])

    @property
    def shapes(self) -> list[Shape]:
        return self.source.shapes


def _parts(cell: Cell) -> Iterator[Cell]:
    """Cells whose test images are normal and not among their training images."""
    validation = unseen(cell.category, cell.train)
    if len(validation):
        yield replace(cell, test=validation)
        return
    for number, out in enumerate(folds(cell.train, cell.seed, most_folds(cell.contender))):
        train, test = cell.train[~out], cell.train[out & (cell.train["variant"] == 0).to_numpy()]
        links = linked(cell, train, test)
        yield replace(cell, train=train, test=test, links=links, fit_key=f"{cell.calibration_key}-{number}")
