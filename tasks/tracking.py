"""MLflow on SQLite inside the workspace: a flat run a group of cells, logged once. Only this file imports mlflow."""

from __future__ import annotations

import base64
import fcntl
import json
import logging
import os
import sqlite3
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from adcore.core import sqlite_files
from adcore.core.disk import DiskFull, room
from adcore.engine import registry
from adcore.report.table import Table
from adcore.results.frame import frame, metric_columns, table_columns
from adcore.results.groups import NAMES, Group
from adcore.results.lines import aggregate
from adcore.results.trained import by_curve, epoch_mean, epoch_table

if TYPE_CHECKING:
    from mlflow import MlflowClient

MOST_METRICS = 40  # the page gets slow with many columns
VIEW = "leaderboard"
# Narrow enough to show the metrics beside the Assistant pane; the name of a run begins with its dataset.
VIEW_PARAMS = {"method": 170, "backbone": 140, "image": 60}
VIEW_METRIC = 80
PATIENCE = 10  # seconds that another process may keep the database locked


class TrackingError(Exception):
    """Runs could not be logged: in one sentence why, and what mends it. Nothing else depends on them."""


class Tracker:
    """Logs groups of finished cells to `WORKSPACE/mlflow.db`, artifacts to `WORKSPACE/mlartifacts`."""

    def __init__(self, workspace: Path, experiment: str = "adcore") -> None:
        self.database = workspace.resolve() / "mlflow.db"
        self.artifacts = workspace.resolve() / "mlartifacts"
        self.cache = workspace.resolve() / ".cache" / "adcore"
        self.experiment = experiment

    @property
    def url(self) -> str:
        """The database as MLflow is told of it."""
        return sqlite_files.url(self.database)

    def log_groups(self, groups: Sequence[Group], tags: Mapping[str, str] | None = None) -> dict[str, str]:
        """run_key -> MLflow run id, logging what is missing and completing what was cut off. Raises TrackingError.

        tags: what is true of the whole plan (git_commit, data_version, plan)."""
        wanted = {group.run_key: group for group in groups}
        if not wanted.keys() <= self._runs("FINISHED").keys():
            self._log_missing(wanted, dict(tags or {}))
        finished = self._runs("FINISHED")
        return {key: finished[key] for key in wanted if key in finished}

    @property
    def experiment_id(self) -> str:
        """Id of the experiment, which is made if it is not there. Raises TrackingError."""
        sql = "SELECT experiment_id FROM experiments WHERE name = ? AND lifecycle_stage = 'active'"
        found = self._query(sql, self.experiment)
        if found:
            return str(found[0][0])
        with self._client() as client:
            return self._open(client)

    def _log_missing(self, wanted: Mapping[str, Group], tags: dict[str, str]) -> None:
        with self._client() as client:
            experiment = self._open(client)
            finished, started = self._runs("FINISHED"), self._runs()
            for key, group in wanted.items():
                if key in finished:
                    continue
                run_id = (
                    started.get(key)
                    or client.create_run(experiment, run_name=group.name, tags={"run_key": key}).info.run_id
                )
                _log(client, run_id, group, tags)
                client.set_terminated(run_id)  # only now is it complete

    def _runs(self, *status: str) -> dict[str, str]:
        """run_key -> run id of the runs that were not deleted, of the given status only if one is given.

        Plain SQL, because importing mlflow takes longer than a run that has nothing to do."""
        found = self._query(
            "SELECT tags.value, runs.run_uuid, runs.status FROM tags JOIN runs ON runs.run_uuid = tags.run_uuid "
            "JOIN experiments ON experiments.experiment_id = runs.experiment_id "
            "WHERE tags.key = 'run_key' AND runs.lifecycle_stage = 'active' AND experiments.name = ?",
            self.experiment,
        )
        return {key: run_id for key, run_id, state in found if not status or state in status}

    def _query(self, sql: str, *values: str) -> list[tuple[Any, ...]]:
        if not self.database.exists():
            return []
        try:
            # Not read-only: the first one to look after a kill rolls back what was cut off.
            name = f"{self.database.as_uri()}?mode=rw"
            with closing(sqlite3.connect(name, uri=True, timeout=PATIENCE)) as connection:
                tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
                if not {"experiments", "runs", "tags"} <= tables:  # an `mlflow server` is just making them
                    return []
                return connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            if sqlite_files.is_damage(error):
                with self._client():  # sets it aside, which another process may have done meanwhile
                    pass
            raise self._failure(error) from error

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time: MLflow's first use of a database is a race, and so is search-then-create."""
        self.cache.mkdir(parents=True, exist_ok=True)
        with (self.cache / "mlflow.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _client(self) -> Iterator[MlflowClient]:
        """MLflow's client over a database that is there and sound, for one process at a time; what fails with it is a
        TrackingError."""
        _quiet()
        from mlflow import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            with room(self.database.parent), self._alone():
                self._require_database()
                yield _mlflow(self.url)
        except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError, DiskFull) as error:
            raise self._failure(error) from error

    def _require_database(self) -> None:
        if self.database.exists():
            self._require_sound()
            return
        # MLflow cannot go on with tables that were cut off in the making, so they appear at once.
        part = self.cache / "mlflow.db.part"
        part.unlink(missing_ok=True)
        _mlflow(sqlite_files.url(part)).search_experiments()
        part.replace(self.database)

    def _require_sound(self) -> None:
        """Raise TrackingError where the database is damaged: it is a record, so it is set aside and not overwritten."""
        problem = sqlite_files.damage(self.database, PATIENCE)
        if problem:
            kept = sqlite_files.set_aside(self.database)
            raise TrackingError(
                f"{self.database} is damaged ({problem}) and was set aside as {kept.name}; "
                "the next run logs its runs into a new one"
            )

    def _failure(self, error: Exception) -> TrackingError:
        reason = str(error).strip().partition("\n")[0]
        return TrackingError(f"runs were not logged to {self.database}: {reason}; the next run logs them")

    def _open(self, client: MlflowClient) -> str:
        """Id of the experiment; makes it and its preset view where needed."""
        experiment = client.get_experiment_by_name(self.experiment)
        if experiment is None:
            # Absolute, because MLflow anchors a relative one at whatever folder a process happens to run in.
            identity = client.create_experiment(self.experiment, artifact_location=self.artifacts.as_uri())
        else:
            identity = experiment.experiment_id
            if experiment.lifecycle_stage == "deleted":
                _restore(client, identity)
        tags = experiment.tags if experiment else {}
        if view_state(tags.get(f"mlflow.sharedViewState.{VIEW}")) != _view():
            client.set_experiment_tag(identity, f"mlflow.sharedViewState.{VIEW}", view_tag())
        return str(identity)


def view_url(experiment_id: str, base: str = "http://127.0.0.1:5000") -> str:
    """Address at which the MLflow page opens as a leaderboard."""
    return f"{base}/#/experiments/{experiment_id}/runs?viewStateShareKey={VIEW}&workflowType=machine_learning"


def view_tag() -> str:
    """Value of the experiment tag that presets the view: an internal format of MLflow 3.15 to 3.17."""
    state = "deflate;" + base64.b64encode(zlib.compress(json.dumps(_view()).encode())).decode()
    now = int(time.time() * 1000)
    return json.dumps({"name": "Leaderboard", "createdAt": now, "updatedAt": now, "state": state})


def view_state(tag: str | None) -> dict[str, Any] | None:
    """The state in such a tag; None for no tag, and for one that is none of ours."""
    if tag is None:
        return None
    try:
        packed = base64.b64decode(json.loads(tag)["state"].removeprefix("deflate;"))
        state: dict[str, Any] = json.loads(zlib.decompress(packed))
    except (ValueError, KeyError, TypeError, AttributeError, zlib.error):
        return None
    return state


def _view() -> dict[str, Any]:
    widths = {f"params.`{name}`": width for name, width in VIEW_PARAMS.items()}
    widths |= {f"metrics.`{name}`": VIEW_METRIC for name in registry.shown_in("mlflow")}
    columns = list(widths)
    return {
        "searchFilter": "",
        "orderByKey": f"metrics.`{registry.shown_in('ranking')[0]}`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": widths,
        "runsHiddenMode": "SHOW_ALL",
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": False,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
    }


def _mlflow(url: str) -> MlflowClient:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=url, registry_uri=url)


def _restore(client: MlflowClient, experiment: str) -> None:
    """Bring back an experiment that a person deleted, as the place of new runs: its name cannot be given again. The
    runs that were deleted with it stay so."""
    client.restore_experiment(experiment)
    for run in client.search_runs([experiment], max_results=50_000):
        client.delete_run(run.info.run_id)


def _quiet() -> None:
    """No telemetry, no search for git, no messages about new tables; before mlflow is imported."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    for name in ("mlflow.store.db.utils", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _log(client: MlflowClient, run_id: str, group: Group, tags: dict[str, str]) -> None:
    from mlflow.entities import Metric, Param, RunTag

    table = frame([result.row for result in group.results])
    # The run's own start as the time of each metric: logging a cut-off run again repeats points, and adds none.
    start = client.get_run(run_id).info.start_time
    note = f"{len(table)} categories\n\n{_markdown(table)}"
    metrics = _metrics(table)
    points = [Metric(name, value, start, 0) for name, value in metrics.items()]
    points += [
        Metric(name, value, start, epoch)
        for name, values in _training(group, MOST_METRICS - len(metrics)).items()
        for epoch, value in enumerate(values, 1)
    ]
    client.log_batch(
        run_id,
        metrics=points,
        params=[Param(name, str(value)) for name, value in _params(group).items()],
        tags=[RunTag(k, str(v)) for k, v in {**tags, "mlflow.note.content": note}.items()],
    )
    with tempfile.TemporaryDirectory() as folder:
        write_artifacts(Path(folder), group)
        client.log_artifacts(run_id, folder)


def _params(group: Group) -> dict[str, Any]:
    params = {name: getattr(group, name) for name in NAMES}
    return {**params, "categories": ", ".join(str(result.row["category"]) for result in group.results)[:500]}


def _metrics(table: pd.DataFrame) -> dict[str, float]:
    """Category means of what applies, and the costs: median latency, total seconds, largest memory and size."""
    others = [column for column in table_columns(table, "note", "cost") if not column.text]
    metrics = table_columns(table, "metric")[: MOST_METRICS - len(others)]
    values = {each.name: aggregate(table[each.name], each.run or each.over) for each in (*metrics, *others)}
    return {name: value for name, value in values.items() if pd.notna(value)}


def _training(group: Group, most: int) -> dict[str, list[float]]:
    """Curves of the method's and the enhancers' training, a value an epoch: means over categories, at most so many."""
    curves = group.fit_curves | by_curve(item for result in group.results for item in result.trained)
    return {name: epoch_mean(list(curves[name].values())) for name in list(curves)[:most]}


def write_artifacts(folder: Path, group: Group) -> None:
    """categories.csv, images.csv, curves.png, and where there is something to show gallery.jpg, training.png of the
    method and, of the enhancers' training, pretext.csv and pretext.png."""
    from adcore.report import heatmaps, plots

    frame([result.row for result in group.results]).to_csv(folder / "categories.csv", index=False)
    images = [r.images.assign(category=r.row["category"]) for r in group.results]
    pd.concat(images, ignore_index=True).to_csv(folder / "images.csv", index=False)
    plots.curves_png(folder / "curves.png", {r.row["category"]: r.curves for r in group.results})
    if group.fit_curves:
        plots.epochs_png(folder / "training.png", group.fit_curves)
    galleries = {str(r.row["category"]): r.gallery for r in group.results if r.gallery}
    if galleries:
        heatmaps.sheet(galleries).save(folder / "gallery.jpg", quality=85)
    trained = [item for result in group.results for item in result.trained]
    if curves := by_curve(trained):
        epoch_table(trained).to_csv(folder / "pretext.csv", index=False)
        plots.epochs_png(folder / "pretext.png", curves)


def _markdown(table: pd.DataFrame) -> str:
    shown = table[["category", *metric_columns(table)]].dropna(axis="columns", how="all")
    rows = [[x if isinstance(x, str) else f"{x:.3f}" for x in row] for row in shown.itertuples(index=False)]
    return Table(list(shown.columns), rows).markdown()
