"""The commands of deploy/compose.yaml with their environments, as processes of this machine in place of containers,
with moto as the S3 server, PostgreSQL of the test's own, and other addresses, ports and folders."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import psutil
import pytest
import yaml

from adcore.results.frame import read
from flows._server import dying_with
from flows._start import free_port
from tests.cluster._postgres import Postgres
from tests.cluster.nodes import REPO
from tests.conftest import make_parts
from tests.deploy.compose import DEPLOY, interpolated
from tests.servers import answers, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
pytest.importorskip("prefect_ray", reason="make test-cluster installs Ray")
pytest.importorskip("psycopg2", reason="make test-cluster installs it")

PORTS = ("4200", "5000", "6379")  # of Prefect, MLflow and Ray's head in the containers
HOSTS = {"prefect": "127.0.0.1", "mlflow": "127.0.0.1", "head": "127.0.0.2"}
# What a container has for itself: the addresses of nodes, and the first of the ports of their workers.
NODES = {"head": ("127.0.0.2", 20300), "worker": ("127.0.0.3", 20400), "driver": ("127.0.0.4", 20500)}
NODE = "--node-ip-address={} --min-worker-port={} --max-worker-port={} --object-store-memory=100000000"
# The programs of the image, which are those of this Python.
PROGRAMS = {"prefect": 'prefect "$@"', "mlflow": 'mlflow "$@"', "ray": 'ray.scripts.scripts "$@" $NODE'}
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where /work of each service is, and the programs; Ray's sockets take paths of at most 107 bytes."""
    made = Path(tempfile.mkdtemp(prefix="adc", dir="/tmp"))
    (made / "token").write_text(secrets.token_hex(32))
    (made / "bin").mkdir()
    for name, command in PROGRAMS.items():
        (made / "bin" / name).write_text(f"#!/bin/sh\nexec {sys.executable} -m {command}\n")
        (made / "bin" / name).chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def moved(postgres: Postgres, bucket: str, folder: Path) -> Callable[[str], str]:
    """The text of a file of deploy/ with the addresses and folders of this test."""
    for name in ("prefect", "mlflow"):
        postgres.create(name)
    ports = {port: str(free_port()) for port in PORTS}
    s3 = urlsplit(os.environ["AWS_ENDPOINT_URL"]).netloc
    database = urlsplit(postgres.url("")).netloc
    paths = {"/run/secrets/ray_token": "token", "/cluster.yaml": "cluster.yaml", "deploy/prefect.yaml": "prefect.yaml"}
    places = {path: str(folder / name) for path, name in paths.items()} | {"/work": "/OWN", "/adcore": str(REPO)}

    def move(text: str) -> str:
        text = re.sub(r"adcore:\w+@postgres:5432", database, text).replace("s3:8333", s3)
        text = re.sub(rf"\b({'|'.join(HOSTS)})(?=:\d)", lambda found: HOSTS[found[0]], text)
        text = re.sub(rf"(?<=[:= \"])({'|'.join(PORTS)})\b", lambda found: ports[found[0]], text)
        return re.sub(rf"(?<![\w/])({'|'.join(places)})\b", lambda found: places[found[0]], text)

    return move


@pytest.fixture
def start(moved: Callable[[str], str], folder: Path) -> Iterator[Start]:
    """Start a service by its name; or another command in its environment."""
    given = {"POSTGRES_PASSWORD": "replaced", "PREFECT_PASSWORD": secrets.token_hex(8), "WORKER_CPUS": "1"}
    given |= {"S3_ACCESS_KEY": os.environ["AWS_ACCESS_KEY_ID"], "S3_SECRET_KEY": os.environ["AWS_SECRET_ACCESS_KEY"]}
    content = yaml.safe_load(moved(interpolated((DEPLOY / "compose.yaml").read_text(), given)))
    (folder / "cluster.yaml").write_text(content["configs"]["cluster"]["content"])
    deployments = moved((DEPLOY / "prefect.yaml").read_text())
    (folder / "prefect.yaml").write_text(deployments.replace("/OWN", str(folder / "driver")))
    base = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "AWS_", "MLFLOW_"))}
    base |= {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(REPO)}
    base |= {"PREFECT_WORKER_WEBSERVER_PORT": str(free_port())}

    processes: list[subprocess.Popen[bytes]] = []

    def begin(service: str, *instead: str) -> subprocess.Popen[bytes]:
        (folder / service).mkdir(exist_ok=True)
        told = content["services"][service]
        own = str(folder / service)
        environment = {name: str(value).replace("/OWN", own) for name, value in told["environment"].items()}
        if service in NODES:
            address, port = NODES[service]
            environment["NODE"] = NODE.format(address, port, port + 99)
            environment["NODE"] += f" --temp-dir={folder / 't'}" if service == "head" else ""
        with (folder / f"{service}.log").open("ab") as log:
            process = subprocess.Popen(
                instead or told["command"], env=base | environment, cwd=REPO, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=dying_with(os.getpid()),
            )  # fmt: skip
        processes.append(process)
        return process

    yield begin
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for left in psutil.process_iter():  # what Ray has started in the background, which bears its folder
        with contextlib.suppress(psutil.Error):
            if any(str(folder) in word for word in left.cmdline()):
                left.kill()


def test_a_plan_runs_on_what_compose_starts(
    start: Start, moved: Callable[[str], str], folder: Path, tmp_path: Path, postgres: Postgres
) -> None:
    s3 = boto3.client("s3")
    for name in ("adcore", "mlflow"):
        s3.create_bucket(Bucket=name)
    make_parts(tmp_path / "parts")
    plan = {
        "image": {"resize": 64},
        "backbone": {"name": "resnet18", "weights": "random"},
        "datasets": [{"name": "parts", "kind": "folder", "root": str(tmp_path / "parts")}],
        "methods": ["padim"],
        "device": "cpu",
    }
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))

    def told(service: str) -> str:
        return (folder / f"{service}.log").read_text(errors="replace")

    start("prefect")
    start("mlflow")
    until(lambda: answers(moved("http://prefect:4200/api/health")) and answers(moved("http://mlflow:5000/health")), 240)
    for service, words in (("head", "Ray runtime started"), ("worker", "Ray runtime started"), ("driver", "Worker '")):
        start(service)
        until(lambda: words in told(service), 240)  # noqa: B023
    watched = ("deployment", "run", "benchmark/cluster", "--watch", "-p", f"plan={tmp_path / 'plan.yaml'}")
    asked = start("driver", "prefect", *watched)
    assert asked.wait(400) == 0, told("driver")[-6000:]
    board = read(folder / "driver" / "results" / "leaderboard.csv")
    assert list(board["status"]) == ["ok", "ok"]
    assert postgres.sql("prefect", "select state_type from flow_run") == "COMPLETED"
    assert postgres.sql("mlflow", "select distinct status from runs") == "FINISHED"
    assert (folder / "worker" / ".cache" / "adcore" / "store" / "cell").exists()  # it was computed there
    for name, prefix in (("adcore", "store/cell/"), ("mlflow", "artifacts/")):
        assert s3.list_objects_v2(Bucket=name, Prefix=prefix)["KeyCount"] > 0
