"""elpv: 2,624 photographs of solar cells in electroluminescence, with image labels only.

Buerhop-Lutz et al., "A Benchmark for Visual Identification of Defective Solar Cells in Electroluminescence Imagery",
EU PVSEC 2018; Deitsch et al., Solar Energy 185, 2019. Files from the PyPI package elpv-dataset.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import ClassVar

import pandas as pd

from adcore.core.disk import write_file
from adcore.datasets.base import GOOD, DataError, Dataset, Entry, Progress

CATEGORIES = ("mono", "poly")
DEFECTIVE = "defective"
LABELS = "labels.csv"
TRAIN, TEST = 200, 150  # normals for training; at most so many good and so many defective for test


class Elpv(Dataset):
    """Two categories, mono and poly (crystalline); defect probability 1 against 0, while 1/3 and 2/3 are left out.

    By content hash, the first 200 normals of a category are for training, the next 150 and the first 150 defective
    ones for test.
    """

    kind: ClassVar[str] = "elpv"
    folder: ClassVar[str] = "elpv"
    licence: ClassVar[str] = "CC BY-NC-SA 4.0 (images)"
    note: ClassVar[str] = "image labels only"
    show_images: ClassVar[bool] = False

    def fetch(self, progress: Progress) -> None:
        source = _package()
        files = [LABELS, *(f"images/{path.name}" for path in sorted((source / "images").glob("*.png")))]
        for done, name in enumerate(files, start=1):
            target = self.root / name
            if not target.is_file() or target.stat().st_size != (source / name).stat().st_size:
                write_file(target, (source / name).read_bytes())
            progress(done, len(files))

    def entries(self) -> list[Entry]:
        labels = self.root / LABELS
        if not labels.is_file():
            raise DataError(f"dataset {self.name}: {labels} does not exist; run `python -m flows.prepare` first")
        table = pd.read_csv(labels, sep=r"\s+", names=["path", "probability", "type"])
        wanted = CATEGORIES if self.spec.categories is None else self.spec.categories
        unknown = [category for category in wanted if category not in CATEGORIES]
        entries = [Entry(c, c, "", GOOD, error=f"no such category: {c}; elpv has mono and poly") for c in unknown]
        for row in table[table["type"].isin(wanted)].itertuples():
            probability = float(str(row.probability))
            if abs(probability - 0.5) > 0.49:  # 0 or 1, in whatever precision it is written
                defect = GOOD if probability < 0.5 else DEFECTIVE
                entries.append(Entry(str(row.path), str(row.type), "", defect))
        return sorted(entries, key=lambda entry: entry.path)

    def arrange(self, frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.copy()
        for _, rows in frame[frame["sha256"] != ""].groupby("category"):
            ranked = rows.sort_values(["sha256", "path"])
            train, test = self.pick(ranked.index[ranked["label"] == 0], ranked.index[ranked["label"] == 1])
            frame.loc[train, "split"] = "train"
            frame.loc[test, "split"] = "test"
        return frame[(frame["split"] != "") | (frame["error"] != "")]

    def pick(self, good: pd.Index, bad: pd.Index) -> tuple[pd.Index, pd.Index]:
        """From the rows of one category in the order of their content hash: those for training, those for test."""
        return good[:TRAIN], good[TRAIN : TRAIN + TEST].append(bad[:TEST])


def _package() -> Path:
    spec = importlib.util.find_spec("elpv_dataset")
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            "dataset elpv: its images come with the package elpv-dataset; run `pip install elpv-dataset==1.0.0.post1`"
        )
    return Path(spec.submodule_search_locations[0]) / "data"
