"""One Prefect server for all flow tests, and tiny plans as files."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from adcore import api
from adcore.core.plan import load
from flows import _server, _start

os.environ["PREFECT_API_URL"] = ""  # a server of our own, whatever else runs on this machine


@pytest.fixture(scope="session", autouse=True)
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    _start.settle(tmp_path_factory.mktemp("prefect"))
    with _server.server():
        yield


@pytest.fixture(scope="session", autouse=True)
def short_latencies() -> Iterator[None]:
    """A latency is the median of few images here: what is measured is tested elsewhere, and each would take seconds."""
    from adcore.engine import latency

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "SECONDS", 0.0)
        yield


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """Tests that run as a shell's job in the background ignore Ctrl-C, and so would all that they start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def fresh_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without runs: making one takes seconds, copying it does not."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def work(tmp_path: Path, fresh_database: Path) -> Path:
    """An empty workspace."""
    (tmp_path / "work").mkdir()
    shutil.copy(fresh_database, tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def plan_file(own_parts: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write a plan over a tiny dataset that the test may damage; keywords replace its parts."""

    def write(**changes: Any) -> Path:
        content = {
            "image": {"resize": 64},
            "backbone": {"name": "resnet18", "weights": "random"},
            "datasets": [{"name": "parts", "kind": "folder", "root": str(own_parts)}],
            "methods": ["padim", {"name": "patchcore", "coreset": 0.5}],
            "device": "cpu",
        }
        path = tmp_path / "plan.yaml"
        path.write_text(yaml.safe_dump(content | changes))
        return path

    return write


@pytest.fixture(scope="module")
def finished_cell(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Plan and workspace of a cell with a threshold, computed, as a command names them."""
    workspace = tmp_path_factory.mktemp("finished")
    content = {
        "image": {"resize": 64},
        "backbone": {"name": "resnet18", "weights": "random"},
        "datasets": [{"name": "parts", "kind": "folder", "root": str(parts), "categories": ["bolt"]}],
        "methods": ["padim"],
        "alarms": 0.25,
        "device": "cpu",
    }
    plan = workspace / "plan.yaml"
    plan.write_text(yaml.safe_dump(content))
    api.run(load(plan), workspace)
    return {"plan": str(plan), "workspace": str(workspace)}
