"""Finished cells as the pipeline leaves them, made of seeded noise."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from adcore.engine import registry
from adcore.metrics import curves
from adcore.results.runs import CellResult
from adcore.results.trained import Trained
from adcore.vision.gallery import make_gallery

SIDE = 96
COSTS = ("extract_s", "fit_s", "score_ms", "peak_mb", "learnable_params", "total_params", "macs", "hardware")


def a_row(**changes: Any) -> dict[str, Any]:
    """A leaderboard row with image metrics only, as the pipeline makes one."""
    row: dict[str, Any] = {
        "dataset": "elpv",
        "category": "mono",
        "protocol": "one-class",
        "enhancer": "none",
        "method": str(changes.get("method_label", "padim")).split("(")[0],
        "protocol_label": "one-class",
        "enhancer_label": "none",
        "method_label": "padim",
        "backbone": "tf_efficientnet_lite0",
        "weights": "pretrained",
        "image": "256",
        "seed": 0,
        "i_auroc": 0.9,
        "i_ap": 0.8,
        "p_auroc": math.nan,
        "aupro": math.nan,
        "extract_s": 4.0,
        "fit_s": 1.5,
        "score_ms": 20.0,
        "hardware": "EPYC, 2 cores",
        "peak_mb": 500.0,
        "learnable_params": 0.0,
        "total_params": 2.5e6,
        "macs": 1.25e9,
        **dict.fromkeys([name for name in registry.of_kind("cost") if name not in COSTS], math.nan),  # of a new file
        "key": "",
        "mlflow_run_id": "",
        "status": "ok",
        **changes,
    }
    names = [str(row[k]) for k in ("dataset", "category", "method_label", "enhancer_label", "weights", "seed")]
    return row | {"key": changes.get("key", "/".join(names))}


def a_result(folder: Path, masks: bool = False, noise: float = 1.0, images: int = 24, **changes: Any) -> CellResult:
    """A finished cell with its artifacts: a bright square is the defect, and it shows in the maps above some noise."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(list(folder.name.encode()))
    labels = np.arange(images) % 2
    pictures = rng.integers(90, 140, (images, SIDE, SIDE, 3)).astype(np.uint8)
    truth = np.zeros((images, SIDE, SIDE), bool)
    for i in np.flatnonzero(labels):
        y, x = rng.integers(8, SIDE - 32, 2)
        truth[i, y : y + 20, x : x + 20] = True
    pictures[truth] = (200, 180, 90)
    maps = rng.gamma(2.0, noise, (images, SIDE // 8, SIDE // 8)).repeat(8, 1).repeat(8, 2) + 4.0 * truth
    scores = maps.max(axis=(1, 2))
    paths = [f"mono/test/{'square' if label else 'good'}/{i:03d}.png" for i, label in enumerate(labels)]
    pd.DataFrame(
        {"path": paths, "label": labels, "defect": np.where(labels, "square", ""), "score": scores, "subset": ""}
    ).to_parquet(folder / "images.parquet")
    drawn = {"image": curves(scores, labels)}
    if masks:
        drawn["pixel"] = curves(maps.ravel(), truth.ravel())
    (folder / "curves.json").write_text(json.dumps(drawn))
    gallery = folder / "gallery"
    gallery.mkdir()
    make_gallery(
        gallery, list(pictures), maps.astype(np.float32), scores, labels, paths, list(truth) if masks else None
    )
    return CellResult(a_row(**changes), folder, gallery)


def a_training(folder: Path, part: str = "sbm", sheet: bool = True, **changes: Any) -> Trained:
    """A training's artifact: two epochs whose loss falls from 2 to 1, and a picture where it was shown some."""
    folder.mkdir(parents=True, exist_ok=True)
    summary = {"epochs": 2, "chance": 0.032, "accuracy": 0.6, "cosine": {"level1": 0.99, "level2": 0.65}}
    summary |= {"warnings": ["cosine 0.65 < 0.7 in level2"]}
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "meta.json").write_text(json.dumps({"enhance_s": 12.3}))
    (folder / "curves.json").write_text(json.dumps({"accuracy": [0.2, 0.6], "loss": [2.0, 1.0]}))
    if sheet:
        Image.new("RGB", (64, 32), "teal").save(folder / "shown.jpg")
    names: dict[str, Any] = {"dataset": "elpv", "category": "mono", "seed": 0, "enhancer_label": part, "part": part}
    return Trained(**(names | changes), folder=folder)


@pytest.fixture
def training() -> Callable[..., Trained]:
    return a_training


@pytest.fixture
def row() -> Callable[..., dict[str, Any]]:
    return a_row


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[CellResult]:
    """Two contenders on two categories with masks."""
    folder = tmp_path_factory.mktemp("cells")
    return [
        a_result(folder / f"{method}-{category}", masks=True, method_label=method, category=category, i_auroc=score)
        for method, score in (("padim", 0.9), ("cfa", 0.8))
        for category in ("mono", "poly")
    ]
