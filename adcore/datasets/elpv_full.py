"""elpv_full: every solar cell of elpv whose label is certain. For a smaller, even choice see elpv."""

from __future__ import annotations

from typing import ClassVar

import pandas as pd

from adcore.datasets import elpv


class ElpvFull(elpv.Elpv):
    """All images of probability 0 or 1, in the files of elpv.

    By content hash, three quarters of the normals are for training, the last quarter for test with all defective ones:
    mono 441 train, 147 good and 313 defective; poly 690 train, 230 good and 402 defective.
    """

    kind: ClassVar[str] = "elpv_full"

    def pick(self, good: pd.Index, bad: pd.Index) -> tuple[pd.Index, pd.Index]:
        train = len(good) * 3 // 4
        return good[:train], good[train:].append(bad)
