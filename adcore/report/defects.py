"""results/defects.csv, defects.md and a folded section of the report: which kinds of defects a contender finds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from adcore.core.keys import code, digest
from adcore.engine.identity import CARRIERS
from adcore.metrics import image_metrics
from adcore.report.leaderboard import write_atomic
from adcore.report.table import Table
from adcore.results.contests import Contests, unique_names
from adcore.results.run import Results
from adcore.results.runs import CellResult

COLUMNS = ("dataset", "category", "defect", "contender", "seed", "images", "i_auroc", "found", "key")
CAPTION = (
    "Image AUROC of the images of one kind of defect against all good test images of the category, in percent, the "
    "mean over seeds. A kind of few images says little: of ten, two more or less move it by several points."
)


def write(folder: Path, results: Results) -> bool:
    """Write both files, of cells with defects that have names; False, and nothing done, if they say this."""
    csv, text = folder / "defects.csv", folder / "defects.md"
    mark = f"<!-- {_key(results)} -->"
    if csv.exists() and text.exists() and text.read_text(encoding="utf-8").startswith(mark):
        return False
    rows = table(results)
    parts = [f"{mark}\n# Kinds of defects", CAPTION]
    for dataset in results.contests.contenders:
        if shown := section(rows, dataset):
            parts += [f"## {dataset}", shown.markdown()]
    write_atomic(csv, rows.to_csv(index=False, lineterminator="\n"))
    write_atomic(text, "\n\n".join(parts) + "\n")
    return True


def table(results: Results) -> pd.DataFrame:
    """A row a cell and kind of defect; found: share of its images above the plan's threshold, NaN without one."""
    found = [row for cell, name in _named(results.contests, results.finished) for row in _of(cell, name)]
    return pd.DataFrame(found, columns=COLUMNS)


def section(rows: pd.DataFrame, dataset: str) -> Table | None:
    """A row a category and kind, a column a contender; None where no category has two kinds."""
    own = rows[rows["dataset"] == dataset]
    kinds = own.groupby("category")["defect"].nunique()
    if not (kinds > 1).any():
        return None
    names = list(dict.fromkeys(own["contender"]))
    body = []
    for (category, defect), group in own.groupby(["category", "defect"], sort=True):
        means = group.groupby("contender")["i_auroc"].mean()
        texts = [f"{100 * means[name]:.1f}" if name in means and not math.isnan(means[name]) else "–" for name in names]
        body.append([str(category), str(defect), f"{group['images'].max():,}", *texts])
    return Table(["category", "defect", "images", *names], body, ("category", "defect"))


def _named(contests: Contests, finished: Sequence[CellResult]) -> Iterator[tuple[CellResult, str]]:
    """The cells of each contender, with its name."""
    for contenders in contests.contenders.values():
        for contender, name in zip(contenders, unique_names(contenders), strict=True):
            yield from ((cell, name) for cell in finished if contender.owns(cell.row))


def _of(cell: CellResult, name: str) -> Iterator[dict[str, Any]]:
    images = cell.images
    good = images[images["label"] == 0]
    for defect, bad in images[images["label"] == 1].groupby("defect", sort=True):
        labels = np.r_[np.zeros(len(good), int), np.ones(len(bad), int)]
        auroc = image_metrics(np.r_[good["score"], bad["score"]], labels)["i_auroc"] if len(good) else math.nan
        above = float((bad["score"] > cell.alarms.image.value).mean()) if cell.alarms else math.nan
        place = {key: cell.row[key] for key in ("dataset", "category", "seed", "key")}
        yield {**place, "defect": defect, "contender": name, "images": len(bad), "i_auroc": auroc, "found": above}


def _key(results: Results) -> str:
    return digest(
        {
            "cells": sorted(str(cell.row["key"]) for cell in results.finished),
            "names": [name for _, name in _named(results.contests, results.finished)],
            "alarms": [cell.alarms.image.value for cell in results.finished if cell.alarms],
            "code": code("adcore.report.defects:write", outside=CARRIERS),
        }
    )
