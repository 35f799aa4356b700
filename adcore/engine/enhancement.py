"""Trains one enhancer of a cell's chain behind those before it, and writes down what came of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from safetensors.torch import save_file

from adcore.core import contracts
from adcore.core.arrays import UInt8Array
from adcore.core.contracts import STAGES, Enhancer, FeatureSource, Host, HostMethod, Method, Outcome, Subject
from adcore.core.names import located
from adcore.core.training import FIRST_STEP, Training
from adcore.engine.cells import Cell, contents
from adcore.features.bank import ImageSet, Live
from adcore.features.drift import COSINE, LOW_LEVEL
from adcore.features.extractor import Extraction, Extractor, Weights

LEAST_SIMILAR = 0.7  # mean cosine below which low-level features count as destroyed
GENTLE = 0.99  # mean cosine that the first step of a sound learning rate leaves
LEARNED = 2.0  # times the accuracy of guessing
SHOWN, SIDE, CAPTION = 4, 128, 16  # images of the sheet, pixels of a picture and of the line above it


@dataclass(frozen=True)
class Enhanced:
    """An enhancer that was trained, on what, and what it gave."""

    enhancer: Enhancer
    subject: Subject
    outcome: Outcome

    def write(self, folder: Path) -> None:
        """weights.safetensors, curves.json, summary.json, and shown.jpg where it was shown made pictures."""
        state = {name: tensor.contiguous().cpu() for name, tensor in self.outcome.state.items()}
        save_file(state, folder / "weights.safetensors")
        _write(folder / "curves.json", self.outcome.curves)
        _write(folder / "summary.json", self.summary)
        sheet = self._sheet()
        if sheet:
            sheet.save(folder / "shown.jpg", quality=85)

    @property
    def summary(self) -> dict[str, Any]:
        """Facts for people, and what they should worry about."""
        accuracy = self.outcome.curves.get("accuracy", [])
        facts = self.outcome.facts
        cosine, first = _by_map(facts, COSINE), _by_map(facts, FIRST_STEP + COSINE)
        rest = {name: value for name, value in facts.items() if COSINE not in name}
        return {
            "enhancer": self.enhancer.name,
            "epochs": len(next(iter(self.outcome.curves.values()), [])),
            "chance": self.outcome.chance,
            "accuracy": accuracy[-1] if accuracy else None,
            "cosine": cosine,
            "cosine_after_first_step": first,
            "facts": rest,
            "stopped": self.outcome.stopped,
            "warnings": [] if self.enhancer.control else list(self._warnings(cosine, first, accuracy)),
        }

    def _warnings(self, cosine: dict[str, float], first: dict[str, float], accuracy: Sequence[float]) -> Iterator[str]:
        if self.outcome.stopped:
            yield self.outcome.stopped
        for name, value in list(first.items())[:LOW_LEVEL]:
            if value < GENTLE:
                yield f"the first step moved {name} to a mean cosine of {value:.2f}: lower the learning rate"
        for name, value in list(cosine.items())[:LOW_LEVEL]:
            if value < LEAST_SIMILAR:
                yield f"the features of {name} moved far: mean cosine {value:.2f} with the original; lower lr or epochs"
        chance = self.outcome.chance or 0.0
        if accuracy and accuracy[-1] < LEARNED * chance:
            yield (
                f"the pretext task was not learned: accuracy {accuracy[-1]:.0%} where guessing gives {chance:.0%}; "
                "raise min_steps"
            )

    def _sheet(self) -> Image.Image | None:
        rows = []
        for index in range(min(SHOWN, len(self.subject.pixels))):
            made = self.enhancer.examples(self.subject, index)
            if made:
                rows.append([("image", self.subject.pixels[index]), *made])
        return _drawn(rows) if rows else None


def train(
    cell: Cell,
    index: int,
    weights: Weights,
    training: Training,
    method: Method | None,
) -> Enhanced:
    """Train link `index` of the cell's chain on its training images; `method` is the one whose loss trains it."""
    enhancer = cell.links[index].made()
    extraction = Extraction(cell.backbone, cell.image, cell.levels, cell.links[:index])
    if enhancer.on_maps:
        levels = enhancer.levels(cell.levels) if cell.levels else ()
        extractor = Extractor(replace(extraction, levels=levels), training.device, weights)
    else:
        whole = cell.backbone.model_copy(update={"layers": None})
        extractor = Extractor(replace(extraction, backbone=whole, levels=STAGES), training.device, weights)
    subject = subject_of(cell)

    def features(extractor: contracts.Extractor) -> FeatureSource:
        return Live(image_set(cell, "train"), extractor, cell.image)

    host = Host(method, features) if isinstance(method, HostMethod) else None
    outcome = enhancer.fit(extractor, subject, training, host)
    return Enhanced(enhancer, subject, outcome)


def subject_of(cell: Cell) -> Subject:
    """The cell's normal training images, decoded, with what synthetic defects on them are made from."""
    images = image_set(cell, "train")
    pixels = np.concatenate([batch.numpy() for batch in images.decoded(cell.image)])
    return Subject(pixels, images.hashes, cell.texture, cell.sources, cell.category.threshold, cell.seed)


def image_set(cell: Cell, part: str) -> ImageSet:
    """The training or test images of a cell."""
    rows = cell.train if part == "train" else cell.test
    paths = tuple(located(cell.category.root, path) for path in rows["path"])
    return ImageSet(paths, tuple(contents(rows)), tuple(rows["variant"]) if rows["variant"].any() else ())


def _by_map(facts: dict[str, float], prefix: str) -> dict[str, float]:
    return {f"map {n}": facts[f"{prefix}{n}"] for n in range(1, 9) if f"{prefix}{n}" in facts}


def _drawn(rows: Sequence[Sequence[tuple[str, UInt8Array]]]) -> Image.Image:
    """A row an image; captions above the first one."""
    sheet = Image.new("RGB", (len(rows[0]) * SIDE, CAPTION + len(rows) * SIDE), "white")
    for column, (caption, _) in enumerate(rows[0]):
        ImageDraw.Draw(sheet).text((column * SIDE + 3, 2), caption, fill="black")
    for line, row in enumerate(rows):
        for column, (_, picture) in enumerate(row):
            small = Image.fromarray(picture.transpose(1, 2, 0)).resize((SIDE, SIDE))
            sheet.paste(small, (column * SIDE, CAPTION + line * SIDE))
    return sheet


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False), encoding="utf-8")
