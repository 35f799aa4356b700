"""Prefect's and MLflow's servers with PostgreSQL, as docs/cluster.md starts them, also where it was started again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.cluster._postgres import Postgres
from tests.servers import MlflowServer, PrefectServer

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
pytest.importorskip("psycopg2", reason="make test-cluster installs it")
FLOW = "import prefect\n@prefect.flow(name='small')\ndef small(): pass\nsmall()"


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
    folders = [tmp_path / name for name in ("prefect", "mlflow")]
    for folder in folders:
        folder.mkdir()
    prefect = PrefectServer(folders[0], database=postgres.url("prefect", "asyncpg"))
    mlflow = MlflowServer(folders[1], database=postgres.url("mlflow"))

    def run() -> None:
        api = {"PREFECT_API_URL": prefect.api, "PREFECT_HOME": str(prefect.folder)}
        subprocess.run([sys.executable, "-c", FLOW], env=os.environ | api, check=True, timeout=120)
        client = MlflowClient(tracking_uri=mlflow.address)
        client.set_terminated(client.create_run("0").info.run_id)

    try:
        prefect.start()
        mlflow.start()
        run()
        assert kept() == ("COMPLETED", "FINISHED")
        postgres.restart()
        run()
        assert kept() == ("COMPLETED\nCOMPLETED", "FINISHED\nFINISHED")
    finally:
        prefect.stop()
        mlflow.stop()
