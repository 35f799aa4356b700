"""What SBM and PFAM have in common: options of the jigsaw puzzles and of the synthetic defects in them."""

from __future__ import annotations

import functools
import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from adcore.core import contracts
from adcore.vision.images import ImageFile

if TYPE_CHECKING:
    from adcore.enhancers._pretext import Pretext

IMAGES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


class PuzzleOptions(contracts.TrainedOptions):
    """Puzzles of n x n tiles, in `permutations` orders beside the right one. `sources`: a folder of textures for the
    synthetic defects, such as DTD; by default they come from other categories' training images and from noise."""

    n: int = Field(3, ge=2, le=5)
    permutations: int = Field(30, ge=1)
    permutation_set: Literal["random", "max_hamming"] = "random"
    sources: Path | None = None

    @model_validator(mode="after")
    def _enough(self) -> PuzzleOptions:
        most = math.factorial(self.n**2) - 1
        if self.permutations > most:
            raise ValueError(f"permutations: {self.n} x {self.n} tiles have only {most} beside the right order")
        if self.sources is not None and not textures(self.sources):
            raise ValueError(f"sources: no images under {self.sources}")
        return self

    def identity(self) -> dict[str, Any]:
        """The options as JSON, the folder by the contents of its files."""
        found: dict[str, Any] = self.model_dump(mode="json", exclude={"sources"})
        return found | ({"sources": sorted(file.sha256 for file in library(self.sources))} if self.sources else {})


def pretext(subject: contracts.Subject, options: PuzzleOptions) -> Pretext:
    """The pictures that a subject's images are made into."""
    from adcore.enhancers._pretext import Pretext
    from adcore.vision.defects import Synthesiser
    from adcore.vision.jigsaw import permutations

    own = options.sources
    synthesiser = (
        Synthesiser(subject.texture, library(own), procedural=0.0, threshold=subject.threshold)
        if own
        else Synthesiser(subject.texture, subject.sources, threshold=subject.threshold)
    )
    classes = permutations(options.n, options.permutations, subject.seed, options.permutation_set)
    return Pretext(subject, synthesiser, classes)


def textures(folder: Path) -> list[Path]:
    """The image files under a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGES)


@functools.cache
def library(folder: Path) -> tuple[ImageFile, ...]:
    """The image files under a folder, with what they held when they were first asked for."""
    return tuple(ImageFile(path, hashlib.sha256(path.read_bytes()).hexdigest()) for path in textures(folder))
