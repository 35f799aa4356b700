"""Servers that a run depends on, and that can be told to fail."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows._start import free_port
from tests.cluster.nodes import answers, until

BUSY = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class S3:
    """moto's S3 server. mode: "well", "busy" (503) or "slow" (two seconds a request); it can be stopped and started."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        self.application = DomainDispatcherApplication(create_backend_app)
        self.port = free_port()
        self.mode = "well"
        self.answers: dict[str, int] = {}
        self.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        mode = self.mode
        self.answers[mode] = self.answers.get(mode, 0) + 1
        if mode == "busy":
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response("503 Slow Down", [("Content-Type", "application/xml"), ("Content-Length", str(len(BUSY)))])
            return [BUSY]
        if mode == "slow":
            time.sleep(2)
        answer: Iterable[bytes] = self.application(environ, start_response)
        return answer

    def start(self) -> None:
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.ERROR)

        self.server = make_server("127.0.0.1", self.port, self, threaded=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@dataclass
class Server:
    """A process that answers at an address."""

    folder: Path
    port: int = field(default_factory=free_port)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def begin(self, command: list[str], health: str, **variables: str) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command], cwd=self.folder, env=os.environ | variables, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        until(lambda: answers(f"{self.address}{health}"), 240)

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@dataclass
class PrefectServer(Server):
    """Prefect's, on a database that is there."""

    database: str = ""

    @property
    def api(self) -> str:
        return f"{self.address}/api"

    def start(self) -> None:
        self.folder.mkdir()
        variables = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": self.database, "PREFECT_HOME": str(self.folder)}
        command = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        self.begin(command, "/api/health", **variables)


class MlflowServer(Server):
    """MLflow's, with a database that outlives it."""

    def start(self) -> None:
        command = ["mlflow", "server", "--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db", "--workers", "1"]
        command += ["--artifacts-destination", str(self.folder / "artifacts"), "--port", str(self.port)]
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        self.begin(command, "/health", **quiet)

    def runs(self) -> list[str]:
        """The states of adcore's runs."""
        from tasks.tracking.place import open_client

        client = open_client(self.address)
        experiment = client.get_experiment_by_name("adcore")
        assert experiment is not None
        return [run.info.status for run in client.search_runs([experiment.experiment_id])]
