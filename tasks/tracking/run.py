"""What MLflow is told of a run: means, costs, settings, curves of its training, and its artifacts."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from adcore.report.table import Table
from adcore.results.contenders import aggregate
from adcore.results.frame import frame, metric_columns, table_columns
from adcore.results.runs import NAMES, RunResult
from adcore.results.trained import by_curve, epoch_mean, epoch_table

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Run

MOST_METRICS = 40  # the page gets slow with many columns


def log(client: MlflowClient, run: Run, result: RunResult, tags: dict[str, str]) -> None:
    """Log a result into its run; into one that was cut off, or that another process logs, too, to the same effect."""
    from mlflow.entities import Metric, Param, RunTag

    table = frame([cell.row for cell in result.cells])
    # The run's own start as the time of each metric: logging it once more repeats points, and adds none.
    run_id, start = run.info.run_id, run.info.start_time
    note = f"{len(table)} categories\n\n{_markdown(table)}"
    metrics = _metrics(table)
    points = [Metric(name, value, start, 0) for name, value in metrics.items()]
    points += [
        Metric(name, value, start, epoch)
        for name, values in _training(result, MOST_METRICS - len(metrics)).items()
        for epoch, value in enumerate(values, 1)
    ]
    client.log_batch(
        run_id,
        metrics=points,
        params=[Param(name, str(value)) for name, value in _params(result).items()],
        tags=[RunTag(k, str(v)) for k, v in {**tags, "mlflow.note.content": note}.items()],
    )
    if "data_version" in tags:
        client.log_inputs(run_id, [_dataset(result, table, tags["data_version"])])
    with tempfile.TemporaryDirectory() as folder:
        write_artifacts(Path(folder), result)
        client.log_artifacts(run_id, folder)


def _dataset(result: RunResult, table: pd.DataFrame, version: str) -> DatasetInput:
    """The data of a run, by its manifest, so that MLflow's page can filter by it."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = json.dumps({"uri": f"manifests/{result.dataset}.csv", "manifest": version})
    profile = json.dumps({"categories": sorted(set(table["category"]))})
    data = Dataset(result.dataset, version[:12], "local", source, profile=profile)
    return DatasetInput(data, tags=[InputTag("mlflow.data.context", "benchmark")])


def _params(result: RunResult) -> dict[str, Any]:
    params = {name: getattr(result, name) for name in NAMES}
    return {**params, "categories": ", ".join(str(cell.row["category"]) for cell in result.cells)[:500]}


def _metrics(table: pd.DataFrame) -> dict[str, float]:
    """Category means of what applies, and the costs: median latency, total seconds, largest memory and size."""
    others = [column for column in table_columns(table, "note", "cost") if not column.text]
    metrics = table_columns(table, "metric")[: MOST_METRICS - len(others)]
    values = {each.name: aggregate(table[each.name], each.run or each.over) for each in (*metrics, *others)}
    return {name: value for name, value in values.items() if pd.notna(value)}


def _training(result: RunResult, most: int) -> dict[str, list[float]]:
    """Curves of the method's and the enhancers' training, a value an epoch: means over categories, at most so many."""
    curves = result.fit_curves | by_curve(item for cell in result.cells for item in cell.trained)
    return {name: epoch_mean(list(curves[name].values())) for name in list(curves)[:most]}


def write_artifacts(folder: Path, result: RunResult) -> None:
    """categories.csv, images.csv, curves.png, and where there is something to show gallery.jpg, training.png of the
    method and, of the enhancers' training, pretext.csv and pretext.png."""
    from adcore.report import heatmaps, plots

    frame([cell.row for cell in result.cells]).to_csv(folder / "categories.csv", index=False)
    images = [cell.images.assign(category=cell.row["category"]) for cell in result.cells]
    pd.concat(images, ignore_index=True).to_csv(folder / "images.csv", index=False)
    plots.curves_png(folder / "curves.png", {cell.row["category"]: cell.curves for cell in result.cells})
    if result.fit_curves:
        plots.epochs_png(folder / "training.png", result.fit_curves)
    galleries = {str(cell.row["category"]): cell.gallery for cell in result.cells if cell.gallery}
    if galleries:
        heatmaps.sheet(galleries).save(folder / "gallery.jpg", quality=85)
    trained = [item for cell in result.cells for item in cell.trained]
    if curves := by_curve(trained):
        epoch_table(trained).to_csv(folder / "pretext.csv", index=False)
        plots.epochs_png(folder / "pretext.png", curves)


def _markdown(table: pd.DataFrame) -> str:
    shown = table[["category", *metric_columns(table)]].dropna(axis="columns", how="all")
    rows = [[x if isinstance(x, str) else f"{x:.3f}" for x in row] for row in shown.itertuples(index=False)]
    return Table(list(shown.columns), rows).markdown()
