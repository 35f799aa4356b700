"""Finished cells to log, and an MLflow server."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from adcore.core.words import TRAINING
from adcore.results.runs import CellResult
from adcore.results.trained import Trained
from adcore.vision.gallery import make_gallery
from tests.servers import MlflowServer


def a_cell(folder, category="mono", **changes):
    """A finished cell: four images, a gallery, and a fit with a loss curve."""
    (folder / "gallery").mkdir(parents=True)
    rng = np.random.default_rng(0)
    labels, scores = np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.4, 0.9])
    images, maps = rng.integers(0, 255, (4, 32, 32, 3)).astype(np.uint8), rng.random((4, 32, 32)).astype(np.float32)
    make_gallery(folder / "gallery", images, maps, scores, labels, list("abcd"))
    pd.DataFrame({"path": list("abcd"), "label": labels, "score": scores}).to_parquet(folder / "images.parquet")
    curve = {"fpr": [0.0, 0.5, 1.0], "tpr": [0.5, 1.0, 1.0], "recall": [0.0, 0.5, 1.0], "precision": [1.0, 1.0, 0.66]}
    (folder / "curves.json").write_text(json.dumps({"image": curve}))
    (folder / TRAINING).write_text(json.dumps({"loss": [2.0, 1.0]}))
    row = {"dataset": "elpv", "category": category, "protocol": "one-class", "enhancer": "none", "method": "padim"}
    row |= {"protocol_label": "one-class", "enhancer_label": "none", "method_label": "padim", "backbone": "resnet18"}
    row |= {"weights": "pretrained", "image": "256", "seed": 0, "i_auroc": 0.75, "aupro": math.nan, "extract_s": 1.0}
    row |= {"learnable_params": 0.0, "total_params": 2e6, "macs": 3e9}
    row |= {"fit_s": 2.0, "score_ms": 10.0, "hardware": "EPYC", "peak_mb": 100.0}
    row |= {"key": f"key-{category}", "mlflow_run_id": ""}
    return CellResult(row | {"status": "ok"} | changes, folder, folder / "gallery", folder)


def trained(folder: Path, category: str, part: str, **curves: list[float]) -> Trained:
    """A training of a part on a category with these values an epoch."""
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps({"chance": 0.1}))
    (folder / "curves.json").write_text(json.dumps(curves))
    return Trained("elpv", category, 0, "sbm+pfam", part, folder)


@pytest.fixture
def enhanced(tmp_path: Path) -> list[CellResult]:
    """Two categories of one enhancer; the second trained for an epoch more."""
    losses = {"mono": [3.0, 1.0], "poly": [1.0, 2.0, 0.5]}
    found = []
    for category, loss in losses.items():
        cell = a_cell(tmp_path / category, category, enhancer_label="sbm+pfam")
        sbm = trained(tmp_path / category / "sbm", category, "sbm", accuracy=[x / 10 for x in loss], loss=loss)
        pfam = trained(tmp_path / category / "pfam", category, "pfam", loss=loss)
        found.append(replace(cell, trained=(sbm, pfam)))
    return found


@pytest.fixture(scope="session")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list[CellResult]:
    """mono, and poly with other numbers."""
    folder = tmp_path_factory.mktemp("cells")
    costs = {"i_auroc": 0.85, "fit_s": 4.0, "score_ms": 14.0, "peak_mb": 300.0}
    return [a_cell(folder / "mono"), a_cell(folder / "poly", "poly", **costs)]


# A server that has just started, on a machine with much else to do, may take longer than a user should wait.
PATIENT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "100", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5"}


@pytest.fixture(scope="session")
def server_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where that server has its `mlflow.db`, artifacts and log."""
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="session")
def server(server_folder: Path) -> Iterator[str]:
    """The address of an MLflow server that has just started; its database is empty."""
    made = MlflowServer(server_folder)
    made.start()
    yield made.address
    made.stop()
