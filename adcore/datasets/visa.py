"""visa: VisA, twelve objects with masks.

Zou et al., "SPot-the-Difference Self-Supervised Pre-training for Anomaly Detection and Segmentation", ECCV 2022.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import pandas as pd

from adcore.core.names import written
from adcore.datasets import _published
from adcore.datasets._unread import passed_over
from adcore.datasets.base import GOOD, Archive, DataError, Entry, Facts

SPLIT = "split_csv/1cls.csv"
COLUMNS = ["object", "split", "label", "image", "mask"]
ANOMALY = "anomaly"


def _facts(train: int, good: int) -> Facts:
    return Facts(train, good, 100, {ANOMALY: 100})


class Visa(_published.Published):
    """CATEGORY/Data/Images/{Normal,Anomaly} and CATEGORY/Data/Masks/Anomaly, split by split_csv/1cls.csv.

    The values of a mask, from 1, tell kinds of defects apart, so that the files look black.
    """

    kind: ClassVar[str] = "visa"
    licence: ClassVar[str] = "CC BY 4.0"
    archive: ClassVar[Archive] = Archive(
        "VisA_20220922.tar",
        "the README of the public repository amazon-science/spot-diff",
        ("https://amazon-visual-anomaly.s3.us-west-2.amazonaws.com/VisA_20220922.tar",),
        "2eb8690c803ab37de0324772964100169ec8ba1fa3f7e94291c9ca673f40f362",
    )
    facts: ClassVar[Mapping[str, Facts]] = {
        "candle": _facts(900, 100),
        "capsules": _facts(542, 60),
        "cashew": _facts(450, 50),
        "chewinggum": _facts(453, 50),
        "fryum": _facts(450, 50),
        "macaroni1": _facts(900, 100),
        "macaroni2": _facts(900, 100),
        "pcb1": _facts(904, 100),
        "pcb2": _facts(901, 100),
        "pcb3": _facts(905, 101),
        "pcb4": _facts(904, 101),
        "pipe_fryum": _facts(450, 50),
    }

    @cached_property
    def _split(self) -> pd.DataFrame:
        path = self.root / SPLIT
        try:
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
            return table[COLUMNS]
        except FileNotFoundError:
            raise DataError(f"dataset {self.name}: {path} does not exist; it says which images are for test") from None
        except (KeyError, ValueError):
            columns = ", ".join(COLUMNS)
            raise DataError(f"dataset {self.name}: {path} is not the split of VisA with columns {columns}") from None

    def listed(self, root: Path, folder: Path, category: str) -> Iterator[Entry]:
        rows = self._split[self._split["object"] == category]
        if rows.empty:
            yield Entry(category, category, "", GOOD, error=f"empty category: {SPLIT} lists no images of it")
        for split, label, image, mask in rows[COLUMNS[1:]].to_numpy().tolist():
            defect = GOOD if label == "normal" else ANOMALY
            error = f"no mask: {SPLIT} names none for {image}" if defect != GOOD and not mask else ""
            yield Entry(written(image), category, split, defect, written(mask), error=error, mask_rule="levels")
        listed = {root / name for name in rows[["image", "mask"]].to_numpy().ravel()}
        yield from passed_over(root, category, [folder / "Data/Images", folder / "Data/Masks"], listed)
