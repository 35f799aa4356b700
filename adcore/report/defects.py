"""results/defects.csv, defects.md and a folded section of the report: which kinds of defects a contender finds."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from adcore.core.keys import code, digest
from adcore.engine.identity import CARRIERS
from adcore.report.leaderboard import write_atomic
from adcore.report.table import Table
from adcore.results.run import Results

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
    parts = [f"{mark}\n# Kinds of defects", CAPTION]
    for dataset in results.contests.contenders:
        if shown := section(results.defects, dataset):
            parts += [f"## {dataset}", shown.markdown()]
    write_atomic(csv, results.defects.to_csv(index=False, lineterminator="\n"))
    write_atomic(text, "\n\n".join(parts) + "\n")
    return True


def section(rows: pd.DataFrame, dataset: str) -> Table | None:
    """A row a category and kind, a column a contender; None where no category has two kinds. rows: of all datasets."""
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


def _key(results: Results) -> str:
    return digest(
        {
            "cells": sorted(str(cell.row["key"]) for cell in results.finished),
            "names": [each.name for ranked in results.ranked.values() for each in ranked for _ in each.cells],
            "alarms": [cell.alarms.image.value for cell in results.finished if cell.alarms],
            "code": code("adcore.report.defects:write", outside=CARRIERS),
        }
    )
