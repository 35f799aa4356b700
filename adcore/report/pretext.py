"""What the enhancers were trained on and how it went, for the page: a table, figures and sheets of images."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from adcore.report import plots
from adcore.report.table import Cell, Marked, Table
from adcore.results.trained import Trained, by_name

SHEETS = 12  # of a dataset: bounds the page
HEADER = (
    "category",
    "part",
    "in",
    "epochs",
    "last loss",
    "pretext accuracy",
    "chance",
    "lowest cosine",
    "seconds",
    "warnings",
)


def panel(trained: Iterable[Trained], dataset: str) -> dict[str, Any] | None:
    """Table, figures and sheets of a dataset's first seed; None where nothing was trained."""
    own = [item for item in trained if item.dataset == dataset]
    first = [item for item in own if item.seed == min(other.seed for other in own)]
    unique: dict[Path, Trained] = {}
    labels: dict[Path, list[str]] = {}
    for item in first:
        unique.setdefault(item.folder, item)
        labels.setdefault(item.folder, []).append(item.enhancer_label)
    if not unique:
        return None
    # Modules behind two or three maps were shown the same images.
    sheets = list({item.sheet.read_bytes(): item for item in unique.values() if item.sheet}.values())
    return {
        "seed": first[0].seed,
        "table": Table(HEADER, [_row(item, labels[folder]) for folder, item in unique.items()], ("warnings",)),
        "figures": figures(list(unique.values())),
        "sheets": [_sheet(item) for item in sheets[:SHEETS]],
        "left_out": len(sheets[SHEETS:]),
    }


def figures(trained: Sequence[Trained]) -> list[str]:
    """SVG of the loss and, where a pretext task has one, of its accuracy, by epoch."""
    chances = {item.name: item.summary["chance"] for item in trained if item.summary["chance"] is not None}
    loss, accuracy = by_name(trained, "loss"), by_name(trained, "accuracy")
    found = [plots.epochs_svg(loss, "loss")] if loss else []
    return [*found, plots.epochs_svg(accuracy, "pretext accuracy", chances)] if accuracy else found


def _row(item: Trained, labels: Sequence[str]) -> list[Cell]:
    summary, loss = item.summary, item.curves.get("loss") or [math.nan]
    part = f"{item.part} on {len(summary['cosine'])} maps" if summary["cosine"] else item.part
    cells = [item.category, part, ", ".join(labels), str(summary["epochs"]), _text(loss[-1], "{:.3g}")]
    cells += [_text(summary[name], "{:.1%}") for name in ("accuracy", "chance")]
    layer, cosine = min(summary["cosine"].items(), key=lambda pair: pair[1], default=("", math.nan))
    cells += [_text(cosine, f"{{:.3f}} in {layer}"), _text(item.seconds, "{:,.0f}")]
    return [*cells, Marked("; ".join(summary["warnings"]), "warning")]


def _text(value: float | None, form: str) -> str:
    return "–" if value is None or math.isnan(value) else form.format(value)


def _sheet(item: Trained) -> dict[str, str]:
    data = base64.b64encode((item.folder / "shown.jpg").read_bytes()).decode()
    return {"uri": f"data:image/jpeg;base64,{data}", "title": f"{item.category} · {item.name}"}
