"""What CONTRIBUTING shows works as shown: an enhancer, a dataset, a protocol, a metric and a column, one file each."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

SHOWN = ("enhancers/flat", "datasets/reversed", "protocols/newest", "metrics/i_tpr5", "columns/test_images")
REPO = Path(__file__).parents[2]
TEXT = (REPO / "CONTRIBUTING.md").read_text(encoding="utf-8")


def snippet(path: str) -> str:
    """The first block of Python behind the name of its file."""
    found = re.search(r"```python\n(.*?)```", TEXT[TEXT.index(f"`{path}`") :], re.DOTALL)
    assert found
    return found.group(1)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The code with every snippet in its file."""
    for name in ("adcore", "tasks", "flows"):
        shutil.copytree(REPO / name, tmp_path / "clone" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in SHOWN:
        path = f"adcore/{name}.py"
        (tmp_path / "clone" / path).write_text(snippet(path))
    return tmp_path / "clone"


def test_every_plug_in_is_one_file(plan_file: Callable[..., Path], parts: Path, clone: Path, tmp_path: Path) -> None:
    """A plan runs with all of them, and every page has the metric's and the column's values."""
    root, work = tmp_path / "images", tmp_path / "work"
    for file in parts.glob("*/t*/*/*.png"):
        category, split, defect = file.relative_to(parts).parts[:3]
        (root / defect / category / split).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, root / defect / category / split)
    dataset = {"name": "mine", "kind": "reversed", "root": str(root)}
    enhancers = ["none", {"name": "flat", "share": 0.25}]
    plan = plan_file(datasets=[dataset], methods=["padim"], enhancers=enhancers, protocols=["one-class", "newest"])
    command: list[str | Path] = [sys.executable, "-m", "flows.benchmark", "--plan", plan, "--workspace", work]
    done = subprocess.run(command, cwd=clone, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "cells: 8 computed, 0 cached, 0 failed"
    table = pd.read_csv(work / "results" / "leaderboard.csv")
    scores = [pd.read_parquet(store_path(work, key) / "images.parquet") for key in table["key"]]
    assert table["i_tpr5"].tolist() == [found_at_5_percent(images) for images in scores]
    assert table["test_images"].tolist() == [len(images) for images in scores]
    for name in ("leaderboard.md", "report.html"):
        page = (work / "results" / name).read_text()
        assert "found at 5 % false alarms" in page
        assert "test images" in page
    with sqlite3.connect(work / "mlflow.db") as database:
        logged = {name for (name,) in database.execute("SELECT DISTINCT key FROM metrics")}
    assert {"i_tpr5", "test_images"} <= logged


def store_path(work: Path, key: str) -> Path:
    """The folder of a finished cell."""
    (folder,) = (path.parent for path in work.rglob("metrics.json") if key in path.as_posix())
    return folder


def found_at_5_percent(images: pd.DataFrame) -> float:
    """By trying every score as a threshold."""
    normal, defective = (images["score"][images["label"].gt(0) == side].to_numpy() for side in (False, True))
    shares = [(defective >= t).mean() for t in defective if (normal >= t).mean() <= 0.05]
    return max(shares, default=0.0)
