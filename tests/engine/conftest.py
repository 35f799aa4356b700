"""A package of somebody else, which brings plug-ins by entry points."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adcore.engine import registry
from tests.reach import forget


def look_again() -> None:
    for cached in (registry.modules, registry.metrics, registry.cell_columns, registry.columns):
        cached.cache_clear()


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """installed(entry_points, source) installs a package that brings a module their_methods."""

    def install(entry_points: str, source: str) -> None:
        (tmp_path / "their_methods.py").write_text(source)
        info = tmp_path / "theirs-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(entry_points)
        monkeypatch.syspath_prepend(tmp_path)
        importlib.invalidate_caches()
        look_again()
        forget()

    yield install
    monkeypatch.undo()
    look_again()
    sys.modules.pop("their_methods", None)
