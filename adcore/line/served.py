"""What MLflow serves as a pyfunc: verdicts of images that are given as paths or as bytes.

The model is a reference to a cell of a workspace, whose store holds the fit, and no copy of it."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from adcore.engine.bench import reopened
from adcore.line.prediction import told
from adcore.line.scorer import Scorer
from adcore.vision.images import ImageFile

REFERENCE = "reference.json"  # plan, workspace, manifests: of a Bench; title, key: of the cell
INPUTS = ("path", "image")  # of an image on the machine that serves; its bytes: one of them a row
OUTPUTS = ("verdict", "score", "p_value", "area", "boxes", "error")


class Served:
    """A cell's scorer behind MLflow's interface."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """A row an image, as in predictions.csv: OUTPUTS. One that cannot be read is a failed row."""
        with tempfile.TemporaryDirectory() as folder:
            paths = [_path(row, Path(folder) / str(place)) for place, row in enumerate(model_input.to_dict("records"))]
            found = self.scorer.scored([ImageFile(path, rule=self.scorer.rule) for path in paths])
            rows = [asdict(told(self.scorer, each, path)) for each, path in zip(found, paths, strict=True)]
        return pd.DataFrame(rows, columns=OUTPUTS)


def _path(row: dict[Any, Any], spare: Path) -> Path:
    """The file of an image; bytes are put into `spare`. Raises ValueError for a row that has neither."""
    if isinstance(content := row.get("image"), bytes):
        spare.write_bytes(content)
        return spare
    if isinstance(path := row.get("path"), str):
        return Path(path)
    raise ValueError("give a row an image: its `path` on the machine that serves, or its bytes as `image` (base64)")


def _load_pyfunc(data: str) -> Served:
    """Called by MLflow. Raises FileNotFoundError where the workspace or the cell is not there (any more)."""
    reference = json.loads((Path(data) / REFERENCE).read_text(encoding="utf-8"))
    place = reference["workspace"]
    gone = f"the model is cell {reference['key']} of the workspace {place}"
    mend = "serve it on the machine that has it, or make a bundle there by `adcore export`"
    if not Path(place).is_dir():
        raise FileNotFoundError(f"{gone}, which is not here; {mend}")
    bench = reopened(reference["plan"], place, reference["manifests"])
    cell = bench.by_title.get(reference["title"])
    if cell is None or cell.key != reference["key"] or not bench.store.has("cell", cell.key):
        raise FileNotFoundError(f"{gone}, which has it no more, as after a change of code or data; {mend}")
    return Served(Scorer(bench, cell))
