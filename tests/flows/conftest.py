"""One Prefect server for all flow tests, and tiny plans as files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows import _start

# Prefect reads its settings when it is imported, so they are here before any test module is.
os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="adcore-prefect-")
os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{_start.free_port()}/api"
os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "CRITICAL"


@pytest.fixture(scope="session", autouse=True)
def prefect_server() -> Iterator[None]:
    os.environ[_start.OWN] = "1"
    with _start.server():
        yield


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
