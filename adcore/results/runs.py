"""Finished cells, and those that make one MLflow run together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from adcore.core import columns
from adcore.core.conformal import Alarms
from adcore.core.words import TRAINING
from adcore.engine import registry
from adcore.results.trained import Trained

IDENTITY = ("dataset", *columns.names("setting", "seed"))  # the leaderboard's columns that tell runs apart
NAMES = tuple(name.removesuffix("_label") for name in IDENTITY)
PLAIN = ("", "none", "identity", "one-class")  # enhancers and protocols that a readable name need not tell


@dataclass(frozen=True)
class CellResult:
    """One finished cell: its leaderboard row and the artifact folders it came from, read only when asked for.

    folder: the cell's artifact (images.parquet, curves.json). gallery: the gallery artifact, if any.
    maps: the maps' artifact, if any, with the curves of the method's training. trained: the trainings behind its
    enhancer, one a part. alarms: of its threshold, if the plan asks for one.
    """

    row: dict[str, Any]
    folder: Path
    gallery: Path | None = None
    maps: Path | None = None
    trained: tuple[Trained, ...] = ()
    alarms: Alarms | None = None

    @cached_property
    def images(self) -> pd.DataFrame:
        """Per-image scores: path, label, defect, score, subset."""
        return pd.read_parquet(self.folder / "images.parquet")

    @cached_property
    def curves(self) -> dict[str, dict[str, list[float]]]:
        """`image` and, where there are masks, `pixel`: each fpr, tpr, recall, precision."""
        curves: dict[str, dict[str, list[float]]] = json.loads((self.folder / "curves.json").read_text())
        return curves

    @cached_property
    def fit_curves(self) -> dict[str, list[float]]:
        """`loss`, ... -> a value an epoch, of a method that trains; empty for one that does not."""
        path = self.maps / TRAINING if self.maps else None
        if path is None or not path.exists():
            return {}
        curves: dict[str, list[float]] = json.loads(path.read_text(encoding="utf-8"))
        return curves


@dataclass(frozen=True)
class RunResult:
    """The finished cells of a contender with one seed, which differ in category only: one flat MLflow run."""

    dataset: str
    protocol: str
    enhancer: str
    method: str
    backbone: str
    weights: str
    image: str
    seed: int
    cells: tuple[CellResult, ...]

    @property
    def fit_curves(self) -> dict[str, dict[str, list[float]]]:
        """`cfa.loss`, ... -> category -> a value an epoch; losses first."""
        found: dict[str, dict[str, list[float]]] = {}
        for cell in self.cells:
            for curve, values in cell.fit_curves.items():
                found.setdefault(f"{cell.row['method']}.{curve}", {})[cell.row["category"]] = values
        return {name: found[name] for name in sorted(found, key=lambda name: not name.endswith(".loss"))}

    @property
    def identity(self) -> tuple[str | int, ...]:
        return tuple(getattr(self, name) for name in NAMES)

    @property
    def run_key(self) -> str:
        """Hash of what it is of and its sorted cell keys: other categories, or new code, make another run, and so
        are other values of columns that are in no key, as where other twins are found."""
        content = [*self.identity, *sorted(str(cell.row["key"]) for cell in self.cells)]
        kept = [each.column.name for each in registry.cell_columns() if each.column.kind != "cost"]
        values = [cell.row.get(name, "") for cell in self.cells for name in kept]
        content += [f"{value}" for value in values if value != "" and value == value]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:20]

    @property
    def name(self) -> str:
        """Readable run name: `elpv · patchcore(coreset=0.01)`, and what else is not plain."""
        method = " ".join(filter(None, [self.method, weights_mark(self.weights)]))
        extra = [name for name in (self.enhancer, self.protocol) if name not in PLAIN]
        return " · ".join([self.dataset, method, *extra, *([f"seed {self.seed}"] if self.seed else [])])


def weights_mark(weights: str) -> str:
    """`(random weights)` or `(stand-in weights)` for numbers that say nothing about the real backbone, else ''."""
    for kind in ("random", "stand-in"):
        if str(weights).lower().startswith(kind):
            return f"({kind} weights)"
    return ""


def run_results(cells: Iterable[CellResult]) -> list[RunResult]:
    """Results of runs in order of first appearance; the cells of each sorted by category."""
    found: dict[tuple[Any, ...], list[CellResult]] = {}
    for cell in cells:
        found.setdefault(tuple(cell.row[name] for name in IDENTITY), []).append(cell)
    return [
        RunResult(**dict(zip(NAMES, identity, strict=True)), cells=tuple(sorted(members, key=_category)))
        for identity, members in found.items()
    ]


def _category(cell: CellResult) -> str:
    return str(cell.row["category"])
