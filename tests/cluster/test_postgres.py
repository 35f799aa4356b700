"""Prefect's and MLflow's servers with PostgreSQL, as docs/cluster.md starts them, also where it was started again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from flows._server import dying_with
from flows._start import free_port
from tests.cluster._postgres import Postgres
from tests.cluster.nodes import answers, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
pytest.importorskip("psycopg2", reason="make test-cluster installs it")
FLOW = "import prefect\n@prefect.flow(name='small')\ndef small(): pass\nsmall()"


@contextlib.contextmanager
def served(command: list[str], health: str, folder: Path, **environment: str) -> Iterator[None]:
    """A server that answers at the URL `health`, for the time of the block."""
    with (folder / f"{command[0]}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], env=os.environ | environment, cwd=folder, stdout=log, stderr=log,
            start_new_session=True, preexec_fn=dying_with(os.getpid()),
        )  # fmt: skip
    try:
        until(lambda: answers(health) or process.poll() is not None, 240)
        assert process.poll() is None, Path(log.name).read_text(errors="replace")[-3000:]
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # it ended by itself
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def kept(postgres: Postgres) -> Callable[[], tuple[str, str]]:
    """The states of flow runs, and the statuses of MLflow's runs, as PostgreSQL holds them."""

    def read() -> tuple[str, str]:
        flows = postgres.sql("prefect", "select state_type from flow_run")
        return flows, postgres.sql("mlflow", "select status from runs")

    return read


def test_servers_keep_their_runs_in_postgresql(
    postgres: Postgres, kept: Callable[[], tuple[str, str]], tmp_path: Path
) -> None:
    postgres.create("prefect")
    postgres.create("mlflow")
    prefect, mlflow = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    url = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": postgres.url("prefect", "asyncpg"), "PREFECT_HOME": str(tmp_path)}
    start = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", prefect.rpartition(":")[2]]
    track = ["mlflow", "server", "--workers", "1", "--host", "127.0.0.1", "--port", mlflow.rpartition(":")[2]]
    own = {"MLFLOW_BACKEND_STORE_URI": postgres.url("mlflow"), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}

    def run() -> None:
        api = {"PREFECT_API_URL": f"{prefect}/api", "PREFECT_HOME": str(tmp_path)}
        subprocess.run([sys.executable, "-c", FLOW], env=os.environ | api, check=True, timeout=120)
        client = MlflowClient(tracking_uri=mlflow)
        client.set_terminated(client.create_run("0").info.run_id)

    with served(start, f"{prefect}/api/health", tmp_path, **url), served(track, f"{mlflow}/health", tmp_path, **own):
        run()
        assert kept() == ("COMPLETED", "FINISHED")
        postgres.restart()
        run()
        assert kept() == ("COMPLETED\nCOMPLETED", "FINISHED\nFINISHED")
