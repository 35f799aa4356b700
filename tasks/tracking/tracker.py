"""MLflow runs: a flat one a contender with one seed on one dataset, logged once, by whichever process comes first."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pandas as pd

from adcore.core.disk import DiskFull
from adcore.results.runs import RunResult
from tasks.tracking import hints
from tasks.tracking import run as runs
from tasks.tracking.elsewhere import Elsewhere
from tasks.tracking.place import FINISHED, Place, unanswered
from tasks.tracking.view import preset, tag, view_state, view_tag, view_url
from tasks.tracking.workspace import WorkspaceDatabase

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PAGE = 100  # runs a request
TRIES = 4  # of a write that others make at the same moment

T = TypeVar("T")


class Tracker:
    """Logs results of runs where MLFLOW_TRACKING_URI says, else to SQLite in the workspace."""

    def __init__(self, workspace: Path, experiment: str = "adcore") -> None:
        uri = os.environ.get("MLFLOW_TRACKING_URI", "")
        self.place: Place = Elsewhere(uri, workspace) if uri else WorkspaceDatabase(workspace)
        self.experiment = experiment
        self.untimed = workspace.resolve() / ".cache" / "adcore" / "mlflow-untimed.json"

    def log_runs(self, results: Sequence[RunResult], tags: Mapping[str, str] | None = None) -> dict[str, str]:
        """run_key -> MLflow run id, logging what is missing and completing what was cut off. Raises TrackingError.

        tags: what is true of the whole plan (git_commit, data_version, plan)."""
        wanted = {result.run_key: result for result in results}
        if not wanted:
            return {}
        found = self.place.finished(self.experiment, wanted)
        missing = {key: result for key, result in wanted.items() if key not in found}
        if missing:
            found |= self._log_missing(missing, dict(tags or {}))
        self._complete_times({key: wanted[key] for key in found}, found)
        return found

    def _complete_times(self, results: Mapping[str, RunResult], found: Mapping[str, str]) -> None:
        """Log those runs once more that this workspace has seen without a latency, on a busy machine, and now have
        one."""
        before = hints.read(self.untimed)
        late = [key for key in before if key in results and _is_timed(results[key])]
        if late:
            with self.place.client() as client:
                for key in late:
                    runs.log(client, client.get_run(found[key]), results[key], {})
        untimed = {key: run for key, run in before.items() if key not in late}
        untimed |= {key: found[key] for key, result in results.items() if not _is_timed(result)}
        if untimed != before:
            with contextlib.suppress(DiskFull, OSError):
                hints.write(self.untimed, untimed)

    @property
    def experiment_id(self) -> str:
        """Id of the experiment, which is made if it is not there. Raises TrackingError."""
        found = self.place.experiment(self.experiment)
        if found:
            return found
        with self.place.client() as client:
            return _insist(lambda: self._open(client))

    @property
    def link(self) -> str:
        """Address at which the experiment opens as a leaderboard. Raises TrackingError."""
        return self.links([""])[""]

    def links(self, datasets: Collection[str]) -> dict[str, str]:
        """The same for each dataset, of its runs alone. Raises TrackingError."""
        experiment = self.experiment_id
        return {dataset: view_url(experiment, self.place.pages, dataset) for dataset in datasets}

    def _log_missing(self, missing: Mapping[str, RunResult], tags: dict[str, str]) -> dict[str, str]:
        found: dict[str, str] = {}
        with self.place.client() as client:
            datasets = {result.dataset for result in missing.values()}
            experiment = _insist(lambda: self._open(client, datasets))
            try:
                for key, result in missing.items():
                    found[key] = _logged(client, experiment, key, result, tags)
            finally:
                self.place.remember(self.experiment, found)
            _insist(lambda: self.place.announce(client, experiment, found))
        return found

    def _open(self, client: MlflowClient, datasets: Collection[str] = ()) -> str:
        """Id of the experiment; makes it and its preset views, one for all datasets and one for each of these, where
        needed."""
        experiment = client.get_experiment_by_name(self.experiment)
        if experiment is None:
            experiment = client.get_experiment(_made(client, self.experiment, self.place.artifacts))
        elif experiment.lifecycle_stage == "deleted":
            _restore(client, experiment.experiment_id)
        for dataset in ("", *sorted(datasets)):
            if view_state(experiment.tags.get(tag(dataset))) != preset(dataset):
                client.set_experiment_tag(experiment.experiment_id, tag(dataset), view_tag(dataset))
        return str(experiment.experiment_id)


def _is_timed(result: RunResult) -> bool:
    return all(pd.notna(cell.row.get("score_ms")) for cell in result.cells)


def _logged(client: MlflowClient, experiment: str, key: str, result: RunResult, tags: dict[str, str]) -> str:
    """Id of the complete run of a result, which is logged if nobody has done so.

    No lock holds between machines, so several may each make a run of a key at once. All then complete the first of
    them, which does no harm, and delete what is not the first: their own, and those that somebody has completed."""
    mine: set[str] = set()

    def approach() -> str:
        """One step nearer to a run that all see as complete; its id once it is."""
        there = _of_key(client, experiment, key)
        if not there:
            mine.add(client.create_run(experiment, run_name=result.name, tags={"run_key": key}).info.run_id)
            return ""
        run, *doubles = there
        for double in doubles:
            if double.info.run_id in mine or double.info.status == FINISHED:
                client.delete_run(double.info.run_id)
        if run.info.status == FINISHED:
            return str(run.info.run_id)
        runs.log(client, run, result, tags)
        client.set_terminated(run.info.run_id)  # only now is it complete
        return ""

    while True:
        if complete := _insist(approach):
            return complete


def _insist(act: Callable[[], T]) -> T:
    """Do what others may do at the same moment, to the same effect, by looking what is there first: once more where it
    is refused, because a database refuses the second of two that add the same row or delete the same run."""
    from mlflow import MlflowException

    for _ in range(TRIES - 1):
        try:
            return act()
        except MlflowException as error:
            if unanswered(error):
                raise
    return act()


def _of_key(client: MlflowClient, experiment: str, key: str) -> list[Run]:
    """The runs of a key that were not deleted, in an order that is the same for everyone: those that are complete,
    first the one that was so first, since who completed it may have gone with it; then the others by the clocks of the
    machines that made them."""

    def order(run: Run) -> tuple[bool, int, str]:
        complete = run.info.status == FINISHED
        return not complete, run.info.end_time if complete else run.info.start_time, run.info.run_id

    return sorted(client.search_runs([experiment], f"tags.run_key = '{key}'"), key=order)


def _made(client: MlflowClient, name: str, artifacts: str | None) -> str:
    """Id of an experiment that was not there."""
    from mlflow import MlflowException

    try:
        return client.create_experiment(name, artifact_location=artifacts)
    except MlflowException:
        faster = client.get_experiment_by_name(name)  # another machine's
        if faster is None:
            raise
        return str(faster.experiment_id)


def _restore(client: MlflowClient, experiment: str) -> None:
    """Bring back an experiment that a person deleted, as the place of new runs: its name cannot be given again. The
    runs that were deleted with it stay so."""
    client.restore_experiment(experiment)
    while found := client.search_runs([experiment], max_results=PAGE):
        for run in found:
            client.delete_run(run.info.run_id)
