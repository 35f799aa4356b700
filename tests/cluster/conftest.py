"""Two nodes of a Ray cluster on loopback addresses of one machine, each with a workspace of its own, and a bucket whose
server can be told to fail."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows._start import free_port
from tests.cluster import _postgres
from tests.conftest import make_parts

REPO = Path(__file__).parents[2]
CATEGORIES = ("a", "b", "c", "d", "e", "f")  # a group each
METHODS = ["padim", {"name": "patchcore", "coreset": 0.5}]
CELLS = len(CATEGORIES) * len(METHODS)
# The same in every process, since sums differ in their last digits with the number of threads.
THREADS = {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "0", "NUMBA_CACHE_DIR": ""}


@dataclass
class Nodes:
    """head: its address. processes: node -> the process that leads its group."""

    folder: Path
    port: int
    environment: dict[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def head(self) -> str:
        return f"127.0.0.2:{self.port}"

    def workspace(self, name: str) -> Path:
        return self.folder / name

    def start(self, name: str, host: str, ports: range, *arguments: str, **variables: str) -> None:
        """A node; the second names the head's address among its arguments."""
        self.workspace(name).mkdir(exist_ok=True)
        own = {"ADCORE_NODE_WORKSPACE": str(self.workspace(name)), **variables}
        fixed = ["--block", "--num-cpus", "1", "--node-ip-address", host, "--object-store-memory", "100000000"]
        fixed += ["--min-worker-port", str(ports.start), "--max-worker-port", str(ports.stop)]
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [str(Path(sys.executable).with_name("ray")), "start", *fixed, *arguments],
                cwd=REPO, env=self.environment | own, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        until(lambda: "Ray runtime started" in (self.folder / f"{name}.log").read_text(errors="replace"), 120)

    def start_second(self, **variables: str) -> None:
        self.start("two", "127.0.0.3", range(20200, 20300), "--address", self.head, **variables)

    def kill(self, name: str) -> None:
        """As when its machine is switched off."""
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def nodes(s3: S3, bucket: str) -> Iterator[Nodes]:
    """With one node, and the bucket as its store."""
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # Ray's sockets take paths of at most 107 bytes
    (folder / "token").write_text(secrets.token_hex(32))
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token"), "RAY_USAGE_STATS_ENABLED": "0"}
    own = {"PYTHONPATH": str(REPO), "PREFECT_API_URL": "", "ADCORE_STORE": f"{bucket}/adcore"}
    made = Nodes(folder, free_port(), {**os.environ, **THREADS, **token, **own})
    head = ["--head", "--port", str(made.port), "--include-dashboard", "false", "--temp-dir", str(folder / "t")]
    try:
        made.start("one", "127.0.0.2", range(20000, 20100), *head)
        yield made
    finally:
        for name in list(made.processes):
            made.kill(name)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def two(nodes: Nodes) -> Nodes:
    """With both nodes."""
    nodes.start_second()
    return nodes


@pytest.fixture(scope="session")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six categories of tiny parts, two methods."""
    folder = tmp_path_factory.mktemp("plan")
    root = make_parts(folder / "parts", CATEGORIES)
    content = {
        "image": {"resize": 64},
        "backbone": {"name": "resnet18", "weights": "random"},
        "datasets": [{"name": "parts", "kind": "folder", "root": str(root)}],
        "methods": METHODS,
        "device": "cpu",
    }
    (folder / "plan.yaml").write_text(yaml.safe_dump(content))
    return folder / "plan.yaml"


@dataclass
class Drivers:
    """Starts the command for the plan; what it ends with."""

    plan: Path
    environment: dict[str, str]
    marks: list[str] = field(default_factory=list)

    def start(self, workspace: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        self.marks.append(f"ADCORE_TEST_DRIVER={uuid.uuid4().hex}")
        name, _, value = self.marks[-1].partition("=")
        command = [sys.executable, "-m", "flows.benchmark", "--plan", str(self.plan), "--workspace", str(workspace)]
        return subprocess.Popen(
            [*command, *arguments], cwd=REPO, env={**self.environment, **variables, name: value}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def run(self, workspace: Path, *arguments: str, **variables: str) -> Ended:
        return Ended.of(self.start(workspace, *arguments, **variables))

    def left(self) -> list[str]:
        """Processes of ended drivers that go on."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                variables = (process / "environ").read_bytes().decode(errors="replace").split("\0")
                command = (process / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if command and set(variables) & set(self.marks):
                found.append(command.replace("\0", " "))
        return found


@dataclass(frozen=True)
class Ended:
    """line: the last one of its output."""

    code: int
    line: str
    errors: str

    @classmethod
    def of(cls, process: subprocess.Popen[str]) -> Ended:
        out, errors = process.communicate(timeout=600)
        return cls(process.returncode, (out.strip().splitlines() or [""])[-1], errors)

    @property
    def counts(self) -> tuple[int, int, int]:
        """Cells: computed, cached, failed."""
        computed, cached, failed = (int(word) for word in self.line.split() if word.isdigit())
        return computed, cached, failed


@pytest.fixture
def drivers(nodes: Nodes, plan: Path) -> Iterator[Drivers]:
    """On these nodes. Nothing of them is left when all have ended."""
    made = Drivers(plan, nodes.environment)
    yield made
    until(lambda: not made.left(), 20)


@pytest.fixture(scope="session")
def alone(plan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workspace of a run on this machine alone."""
    folder = tmp_path_factory.mktemp("alone")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "ADCORE_"))}
    ended = Drivers(plan, {**plain, **THREADS, "PREFECT_API_URL": ""}).run(folder)
    assert (ended.code, ended.counts) == (0, (CELLS, 0, 0)), ended.errors[-3000:]
    return folder


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


@pytest.fixture
def s3() -> Iterator[S3]:
    made = S3()
    yield made
    made.stop()


@pytest.fixture
def s3_endpoint(s3: S3) -> str:
    return s3.address


@dataclass
class Server:
    """MLflow's, with a database that outlives it."""

    folder: Path
    port: int = field(default_factory=free_port)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        database = f"sqlite:///{self.folder}/mlflow.db"
        command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", database]
        command += ["--artifacts-destination", str(self.folder / "artifacts"), "--port", str(self.port)]
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--workers", "1"], cwd=self.folder, env=os.environ | quiet, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        until(lambda: answers(f"{self.address}/health"), 120)

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def runs(self) -> list[str]:
        """The states of adcore's runs."""
        from tasks.tracking.place import open_client

        client = open_client(self.address)
        experiment = client.get_experiment_by_name("adcore")
        assert experiment is not None
        return [run.info.status for run in client.search_runs([experiment.experiment_id])]


@pytest.fixture
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("mlflow"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def postgres() -> Iterator[_postgres.Postgres]:
    """A server of this test's own, without databases yet."""
    if why := _postgres.why_absent():
        pytest.skip(why)
    with _postgres.server() as made:
        yield made


def until(there: Callable[[], bool], seconds: float) -> None:
    """Wait for something; fail where it does not come."""
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


def answers(url: str) -> bool:
    """Whether a server says there that it is well."""
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
        return bool(answer.status == 200)
    return False
