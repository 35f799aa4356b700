"""Samples of finished cells are made once and read back as they were."""

import numpy as np
import pandas as pd

from adcore.core.store import Store
from adcore.results.runs import CellResult
from adcore.results.samples import samples


def test_a_sample_is_made_once_and_read_back_the_same(tmp_path):
    store, folder = Store(tmp_path / "store"), tmp_path / "cell"
    folder.mkdir()
    labels = np.arange(30) % 2
    images = {"path": [f"{i}.png" for i in range(30)], "label": labels, "defect": "", "subset": ""}
    scores = np.random.default_rng(0).normal(size=30).astype(np.float32) + labels
    pd.DataFrame(images | {"score": scores}).to_parquet(folder / "images.parquet")
    first = samples(store, [CellResult({"key": "abc"}, folder)])["abc"]
    (folder / "images.parquet").unlink()  # not read again
    again = samples(store, [CellResult({"key": "abc"}, folder)])["abc"]
    assert again.images == first.images and again.draws.dtype == first.draws.dtype == np.float32
    assert np.array_equal(again.draws, first.draws) and np.array_equal(again.deviations, first.deviations)
    assert not np.isnan(first.draws).any()
