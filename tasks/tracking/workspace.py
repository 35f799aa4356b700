"""MLflow on SQLite inside the workspace."""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adcore.core import sqlite_files
from adcore.core.disk import DiskFull, room
from tasks.tracking.place import FINISHED, Place, TrackingError, open_client, quiet

if TYPE_CHECKING:
    from mlflow import MlflowClient

PATIENCE = 10  # seconds that another process may keep the database locked


class WorkspaceDatabase(Place):
    """Runs in `WORKSPACE/mlflow.db`, their artifacts in `WORKSPACE/mlartifacts`.

    What is only looked up is read by plain SQL: importing mlflow takes longer than a run that has nothing to do."""

    def __init__(self, workspace: Path) -> None:
        self.database = workspace.resolve() / "mlflow.db"
        self.cache = workspace.resolve() / ".cache" / "adcore"
        self.url = sqlite_files.url(self.database)
        # Absolute, because MLflow anchors a relative one at whatever folder a process happens to run in.
        self.artifacts = (workspace.resolve() / "mlartifacts").as_uri()

    @property
    def pages(self) -> str:
        return ""

    def experiment(self, name: str) -> str:
        sql = "SELECT experiment_id FROM experiments WHERE name = ? AND lifecycle_stage = 'active'"
        found = self._query(sql, name)
        return str(found[0][0]) if found else ""

    def finished(self, experiment: str, keys: Iterable[str]) -> dict[str, str]:
        found = self._query(
            "SELECT tags.value, runs.run_uuid FROM tags JOIN runs ON runs.run_uuid = tags.run_uuid "
            "JOIN experiments ON experiments.experiment_id = runs.experiment_id "
            "WHERE tags.key = 'run_key' AND runs.lifecycle_stage = 'active' AND experiments.name = ? "
            "AND runs.status = ?",
            experiment,
            FINISHED,
        )
        runs = dict(found)
        return {key: runs[key] for key in keys if key in runs}

    @contextmanager
    def client(self) -> Iterator[MlflowClient]:
        """Over a database that is there and sound, for one process at a time."""
        quiet()
        from mlflow import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            with room(self.database.parent), self._alone():
                self._require_database()
                yield open_client(self.url)
        except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError, DiskFull) as error:
            raise self._failure(error) from error

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
                with self.client():  # sets it aside, which another process may have done meanwhile
                    pass
            raise self._failure(error) from error

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time: MLflow's first use of a database is a race, and so is search-then-create."""
        self.cache.mkdir(parents=True, exist_ok=True)
        with (self.cache / "mlflow.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _require_database(self) -> None:
        if self.database.exists():
            self._require_sound()
            return
        # MLflow cannot go on with tables that were cut off in the making, so they appear at once.
        part = self.cache / "mlflow.db.part"
        part.unlink(missing_ok=True)
        open_client(sqlite_files.url(part)).search_experiments()
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
