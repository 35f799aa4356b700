"""What the comparison on the same images needs of each finished cell, computed once a cell and kept in the store."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from adcore.core.keys import code, digest
from adcore.core.store import Store
from adcore.results.images import Sample, sample
from adcore.results.runs import CellResult


def identity() -> str:
    """Of the code of a cell's bootstrap over images."""
    return code("adcore.results.images:sample")


def samples(store: Store, results: Iterable[CellResult]) -> dict[str, Sample]:
    """Key of a cell -> its sample; reads images.parquet only of cells whose sample is not in the store yet."""
    return {key: _sample(store, key, result) for result in results if (key := str(result.row["key"]))}


def _sample(store: Store, cell: str, result: CellResult) -> Sample:
    key = digest({"step": "sample", "cell": cell, "code": identity()})
    if not store.has("sample", key):
        made = sample(result.images)
        with store.write("sample", key, {"images": made.images, "parents": {"cell": cell}}) as folder:
            np.save(folder / "draws.npy", made.draws)
            np.save(folder / "deviations.npy", made.deviations)
        return made
    folder = store.path("sample", key)
    draws, deviations = (np.load(folder / f"{name}.npy") for name in ("draws", "deviations"))
    return Sample(store.meta("sample", key)["images"], draws, deviations)
