"""What a network is shown to be fine-tuned on normal images: synthetic defects and jigsaw puzzles of them.

Every picture depends on the seed, its image's content and the epoch alone, whatever the order and the threads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adcore.core.arrays import BoolArray, UInt8Array
from adcore.core.contracts import Subject
from adcore.core.draws import generator
from adcore.vision.defects import Synthesiser
from adcore.vision.jigsaw import IntArray, jigsaw


@dataclass(frozen=True)
class Pretext:
    """Pictures made of the images of a subject. `classes` are the permutations of the puzzles (see `jigsaw`)."""

    subject: Subject
    synthesiser: Synthesiser
    classes: IntArray

    def defect(self, index: int, epoch: int) -> tuple[UInt8Array, BoolArray]:
        """Image `index` (3, S, S) with a synthetic defect, and its mask (S, S)."""
        return self.synthesiser(self.subject.pixels[index], self._rng(index, epoch, "defect"))

    def puzzle(self, image: UInt8Array, index: int, epoch: int, name: str) -> tuple[UInt8Array, int]:
        """A puzzle of an image (3, S, S) and its class.

        Tiles are equal, so up to n - 1 rows and columns at the border are those of the image, not of a tile.
        """
        n = int(len(self.classes[0]) ** 0.5)
        side = image.shape[1] // n * n
        puzzle, label = jigsaw(image[:, :side, :side], self.classes, self._rng(index, epoch, name))
        rest = image.shape[1] - side
        return np.pad(puzzle, ((0, 0), (0, rest), (0, rest)), mode="edge"), label

    def _rng(self, index: int, epoch: int, name: str) -> np.random.Generator:
        return generator(self.subject.seed, self.subject.hashes[index], epoch, name)
