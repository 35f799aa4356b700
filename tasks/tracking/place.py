"""Where MLflow's runs are kept: what a tracker asks of such a place, and the error that they share."""

from __future__ import annotations

import logging
import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

FINISHED = "FINISHED"  # the status of a run that is complete


class TrackingError(Exception):
    """Runs could not be logged: in one sentence why, and what mends it. Nothing else depends on them."""


class Place(ABC):
    """A database of MLflow's, or a server. What fails in it is a TrackingError.

    url: as MLflow's client is given it; it may hold a password. artifacts: where those of a new experiment go; None:
    the server knows."""

    url: str
    artifacts: str | None

    @property
    @abstractmethod
    def pages(self) -> str:
        """Address of MLflow's pages; "" where they are to be started (`make ui`)."""

    @abstractmethod
    def experiment(self, name: str) -> str:
        """Id of the experiment, "" where there is none that was not deleted."""

    @abstractmethod
    def finished(self, experiment: str, keys: Iterable[str]) -> dict[str, str]:
        """run_key -> run id of complete runs in the experiment of that name. A run that is not found may be there."""

    def remember(self, experiment: str, runs: Mapping[str, str]) -> None:  # noqa: B027
        """Take note of complete runs, for `finished`, where looking them up is dear."""

    def announce(self, client: MlflowClient, experiment: str, runs: Mapping[str, str]) -> None:  # noqa: B027
        """Tell others, too, of runs that were just completed in the experiment of that id."""

    @abstractmethod
    def client(self) -> AbstractContextManager[MlflowClient]:
        """MLflow's client, within the block."""


def quiet() -> None:
    """No telemetry, no search for git, no messages about tables, attempts and addresses; before mlflow is imported."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    for name in ("mlflow.store.db.utils", "mlflow.pyfunc", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)


def open_client(url: str) -> MlflowClient:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=url, registry_uri=url)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def unanswered(error: BaseException) -> bool:
    """Whether an error is that nobody answers, in time or at all."""
    import requests

    silence = (requests.ConnectionError, requests.Timeout, ConnectionError, TimeoutError, socket.gaierror)
    return any(isinstance(cause, silence) for cause in causes(error))
