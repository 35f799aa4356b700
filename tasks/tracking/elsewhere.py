"""MLflow where MLFLOW_TRACKING_URI says: a server, or a database that several machines may use."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.tracking import hints, index
from tasks.tracking.address import Address
from tasks.tracking.place import FINISHED, Place, TrackingError, causes, open_client, quiet, unanswered

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

FIRST = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "8", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}  # is anybody there?
LATER = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "20", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
FEW = 50  # keys that are sooner asked for one by one than all runs are read
PAGE = 200  # runs a request
CHECKED = 500  # run ids a request


class Elsewhere(Place):
    """A server, or a database by its URI.

    The ids of complete runs are kept in the workspace and in the experiment's index, and the place is asked only if
    they are all still there; all runs are read only where they are not, or where many are not known."""

    def __init__(self, uri: str, workspace: Path) -> None:
        self.address = Address(uri)
        # Without its credentials MLflow cannot print those of a server; it is given them as variables.
        self.url = self.address.shown if self.address.kind == "server" else uri
        self.memory = workspace.resolve() / ".cache" / "adcore" / "mlflow-runs"
        self.artifacts = None if self.address.kind == "server" else (workspace.resolve() / "mlartifacts").as_uri()
        self._known: MlflowClient | None = None

    @property
    def pages(self) -> str:
        return self.url if self.address.kind == "server" else ""

    def experiment(self, name: str) -> str:
        with self.client() as client:
            active = _active(client, name)
            return str(active.experiment_id) if active else ""

    def finished(self, experiment: str, keys: Iterable[str]) -> dict[str, str]:
        wanted = [*keys]
        with self.client() as client:
            active = _active(client, experiment)
            if active is None:
                return {}
            told, remembered = index.read(active), self._remembered(experiment)
            known = told | remembered
            found = {key: known[key] for key in wanted if key in known}
            many = len(wanted) - len(found) > FEW
            if not many and not _all_there(client, active.experiment_id, [*found.values()]):
                found, many = {}, len(wanted) > FEW
            if many:
                found = _read_all(client, active.experiment_id)
                index.write(client, active.experiment_id, dict(found.items() - told.items()))
            if not found.items() <= remembered.items():
                self.remember(experiment, found)
        return {key: found[key] for key in wanted if key in found}

    def announce(self, client: MlflowClient, experiment: str, runs: Mapping[str, str]) -> None:
        index.write(client, experiment, runs)

    def remember(self, experiment: str, runs: Mapping[str, str]) -> None:
        if runs:
            hints.write(self._file(experiment), {**self._remembered(experiment), **runs})

    @contextmanager
    def client(self) -> Iterator[MlflowClient]:
        if not self.address.kind:
            raise TrackingError(
                f"runs were not logged: MLFLOW_TRACKING_URI is {self.address.shown}, and has to be the address of a "
                "server (http://HOST:PORT) or the URI of a database (postgresql://..., mysql://..., mssql://..., sqlite:///...)"
            )
        quiet()
        try:
            with _environment(self._login(), always=True):
                if self._known is None:
                    with _environment(FIRST):
                        self._known = self._first()
                with _environment(LATER):
                    yield self._known
        except TrackingError:
            raise
        except Exception as error:  # MLflow, a database's driver and an object store's client raise what they like
            raise self._failure(error) from None  # a traceback could tell the URI

    def _first(self) -> MlflowClient:
        """The client, once it was answered. One request before all others, because of the first ones a server that has
        just started can answer some with an error when they come at once."""
        if self.address.kind == "database":
            _knock(self.url)
            return open_client(self.url)
        client = open_client(self.url)
        client.search_experiments(max_results=1)
        return client

    def _login(self) -> dict[str, str]:
        """The credentials of a server's URI as variables of MLflow."""
        names = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
        user, password = self.address.credentials if self.address.kind == "server" else ("", "")
        return dict(zip(names, (user, password), strict=True)) if user else {}

    def _failure(self, error: Exception) -> TrackingError:
        reason = self.address.masked(_reason(error))
        return TrackingError(f"runs were not logged to {self.address.shown}: {reason}; the next run logs them")

    def _remembered(self, experiment: str) -> dict[str, str]:
        return hints.read(self._file(experiment))

    def _file(self, experiment: str) -> Path:
        name = hashlib.sha256(f"{self.address.shown} {experiment}".encode()).hexdigest()[:20]
        return self.memory / f"{name}.json"


def _active(client: MlflowClient, name: str) -> Experiment | None:
    found = client.get_experiment_by_name(name)
    return found if found and found.lifecycle_stage == "active" else None


def _all_there(client: MlflowClient, experiment: str, runs: Sequence[str]) -> bool:
    """Whether these are all complete runs that were not deleted, by asking for the last of them.

    The token that says where a page begins is MLflow's own matter, so whoever does not know ours makes this False: he
    would refuse it, or send another run than the last."""
    from mlflow import MlflowException
    from mlflow.utils.search_utils import SearchUtils

    for start in range(0, len(runs), CHECKED):
        some = runs[start : start + CHECKED]
        listed = ", ".join(f"'{run}'" for run in some)
        query = f"attributes.status = '{FINISHED}' AND attributes.run_id IN ({listed})"
        token = SearchUtils.create_page_token(len(some) - 1)  # type: ignore[no-untyped-call]
        try:
            last = client.search_runs([experiment], query, max_results=1, page_token=token)
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            return False
        if len(last) != 1 or last.token:
            return False
    return True


def _read_all(client: MlflowClient, experiment: str) -> dict[str, str]:
    """run_key -> run id of all complete runs; of doubles the one that was complete first."""
    found: dict[str, str] = {}
    token = None
    while True:
        order = ["attributes.end_time DESC", "attributes.run_id DESC"]
        page = client.search_runs(
            [experiment], f"attributes.status = '{FINISHED}'", max_results=PAGE, order_by=order, page_token=token
        )
        found |= {run.data.tags["run_key"]: run.info.run_id for run in page if "run_key" in run.data.tags}
        token = page.token
        if not token:
            return found


def _knock(uri: str) -> None:
    """Raise what a database raises that does not answer, or does not let us in: MLflow itself tries for minutes."""
    import sqlalchemy

    url = sqlalchemy.make_url(uri)
    if not url.host and not Path(url.database or "").exists():
        return  # of SQLite, which MLflow makes
    if url.host:
        port = url.port or PORTS[url.get_backend_name()]
        socket.create_connection((url.host, port), timeout=int(FIRST["MLFLOW_HTTP_REQUEST_TIMEOUT"])).close()
    engine = sqlalchemy.create_engine(url)
    sqlalchemy.inspect(engine)
    engine.dispose()


@contextmanager
def _environment(variables: Mapping[str, str], always: bool = False) -> Iterator[None]:
    """Variables that MLflow reads with every request, within the block; those that the user has set win unless
    `always`."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update({name: value for name, value in variables.items() if always or before[name] is None})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _reason(error: Exception) -> str:
    """Why a place failed, and what mends it."""
    import requests
    from mlflow import MlflowException

    for cause in causes(error):
        if isinstance(cause, requests.exceptions.ProxyError):
            return "the proxy does not let us there (hosts in `no_proxy` are asked without it)"
        if isinstance(cause, requests.exceptions.SSLError):
            return "its certificate is not trusted (MLFLOW_TRACKING_SERVER_CERT_PATH names that of its authority)"
    if unanswered(error):
        return "it does not answer (is it up, and is MLFLOW_TRACKING_URI its address?)"
    refusals = ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED", "PERMISSION_DENIED")
    if isinstance(error, MlflowException) and error.error_code in refusals:
        return (
            "it does not let us in; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        )
    if isinstance(error, MlflowException) and (error.error_code == "ENDPOINT_NOT_FOUND" or "valid JSON" in str(error)):
        return "what answers there is no MLflow server"
    if isinstance(error, ModuleNotFoundError):
        return f"the package {error.name} is wanted for it; install it with pip"
    return str(error).strip().partition("\n")[0] or type(error).__name__
