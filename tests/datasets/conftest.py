"""A small set in MVTec layout, and a way to read any folder as a dataset."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from adcore.core.plan import DatasetSpec
from adcore.datasets import manifest
from adcore.datasets.base import Dataset
from adcore.engine import registry


def save(path: Path, seed: int, size: int = 16) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)).save(path)
    return path


def save_mask(path: Path, size: int = 16) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((size, size), np.uint8)
    mask[3:6, 4:9] = 255
    Image.fromarray(mask).save(path)
    return path


def make_category(folder: Path, seed: int) -> None:
    """Four training images, two good ones and three with the defect "hole", all with masks."""
    for i in range(4):
        save(folder / "train/good" / f"{i:03d}.png", seed + i)
    for i in range(2):
        save(folder / "test/good" / f"{i:03d}.png", seed + 10 + i)
    for i in range(3):
        save(folder / "test/hole" / f"{i:03d}.png", seed + 20 + i)
        save_mask(folder / "ground_truth/hole" / f"{i:03d}_mask.png")


@pytest.fixture
def files() -> SimpleNamespace:
    """The functions that write files: `save`, `save_mask`, `make_category`."""
    return SimpleNamespace(save=save, save_mask=save_mask, make_category=make_category)


@pytest.fixture
def line(tmp_path: Path) -> Path:
    """A root of two sound categories, bolt and cap."""
    make_category(tmp_path / "line/bolt", 0)
    make_category(tmp_path / "line/cap", 100)
    return tmp_path / "line"


@pytest.fixture
def dataset(tmp_path: Path) -> Callable[..., Dataset]:
    """A dataset of the kind given, with its data below the temporary folder."""

    def make(kind: str, **options: object) -> Dataset:
        if "root" in options:
            options["root"] = tmp_path / str(options["root"])
        spec = DatasetSpec.model_validate({"name": kind, "kind": kind, **options})
        return registry.dataset(kind)(spec, tmp_path / "data")

    return make


@pytest.fixture
def build(tmp_path: Path) -> Callable[[Dataset], pd.DataFrame]:
    return lambda dataset: manifest.build(dataset, tmp_path / "cache/files.sqlite")
