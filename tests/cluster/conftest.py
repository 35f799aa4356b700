"""Two nodes of a Ray cluster, and a plan for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.nodes import Nodes, nodes_of
from tests.conftest import make_parts

CATEGORIES = ("a", "b", "c", "d", "e", "f")  # a group each
METHODS = ["padim", {"name": "patchcore", "coreset": 0.5}]
CELLS = len(CATEGORIES) * len(METHODS)


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    with nodes_of(2) as made:
        yield made


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """Six categories of tiny parts, two methods."""
    root = make_parts(tmp_path / "parts", CATEGORIES)
    content = {
        "image": {"resize": 64},
        "backbone": {"name": "resnet18", "weights": "random"},
        "datasets": [{"name": "parts", "kind": "folder", "root": str(root)}],
        "methods": METHODS,
        "device": "cpu",
    }
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "plan.yaml"
