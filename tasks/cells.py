"""The steps of a cell. Tasks are given names and keys, never arrays, and answer with a key."""

from __future__ import annotations

from adcore.bench import Bench, reopened
from adcore.cells import Cell
from tasks.caching import cached
from tasks.progress import step


def _cell(plan: str, workspace: str, manifests: str, cell: str) -> tuple[Bench, Cell]:
    opened = reopened(plan, workspace, manifests)
    return opened, opened.by_key[cell]


@cached("extract")
def extract(title: str, key: str, cell: str, plan: str, workspace: str, manifests: str) -> str:
    """Features of a category's images, into the feature bank."""
    opened, found = _cell(plan, workspace, manifests, cell)
    with step(f"extract {title}") as progress:
        opened.computer.extract(found, opened.levels, progress)
    return key


@cached("fit")
def fit(title: str, key: str, cell: str, plan: str, workspace: str, manifests: str) -> str:
    """A fitted method."""
    opened, found = _cell(plan, workspace, manifests, cell)
    with step(f"fit {title}") as progress:
        opened.computer.fit(found, progress)
    return key


@cached("score")
def score(title: str, key: str, cell: str, plan: str, workspace: str, manifests: str) -> str:
    """Raw maps and image scores of the test images."""
    opened, found = _cell(plan, workspace, manifests, cell)
    with step(f"score {title}") as progress:
        opened.computer.score(found, progress)
    return key


@cached("evaluate")
def evaluate(title: str, key: str, cell: str, plan: str, workspace: str, manifests: str) -> str:
    """Metrics and gallery."""
    opened, found = _cell(plan, workspace, manifests, cell)
    with step(f"evaluate {title}"):
        opened.computer.evaluate(found)
    return key


@cached("latency")
def latency(title: str, key: str, cell: str, plan: str, workspace: str, manifests: str) -> str:
    """Milliseconds an image, measured on this machine."""
    opened, found = _cell(plan, workspace, manifests, cell)
    with step(f"latency {title}"):
        opened.computer.latency(found)
    return key
