"""Nodes, servers and a plan for tests of a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster import _postgres
from tests.cluster.drivers import Drivers
from tests.cluster.nodes import REPO, THREADS, Nodes, nodes_of
from tests.conftest import make_parts
from tests.servers import S3, MlflowServer, until

CATEGORIES = ("a", "b", "c", "d", "e", "f")  # a group each
METHODS = ["padim", {"name": "patchcore", "coreset": 0.5}]
CELLS = len(CATEGORIES) * len(METHODS)


@pytest.fixture(scope="session", autouse=True)
def tables() -> None:
    """The empty database of Prefect's server, which a command in this checkout leaves for those in other workspaces:
    each driver here has a new one, and would take ten seconds to make a database of its own."""
    begin = "from flows import _server, _start\n_start.settle(_start.PLACE)\nwith _server.server(): pass"
    subprocess.run([sys.executable, "-c", begin], cwd=REPO, env={**os.environ, "PREFECT_API_URL": ""}, check=True)


@pytest.fixture
def s3() -> Iterator[S3]:
    made = S3()
    yield made
    made.stop()


@pytest.fixture
def s3_endpoint(s3: S3) -> str:
    return s3.address


@pytest.fixture
def nodes(bucket: str) -> Iterator[Nodes]:
    """One node, and the bucket as its store."""
    with nodes_of(1, ADCORE_STORE=f"{bucket}/adcore") as made:
        yield made


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


@pytest.fixture
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
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
