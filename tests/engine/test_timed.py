"""Latencies of a busy machine: told as such, and measured again when it is quieter."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path

import pytest

from adcore.core.store import Remembering
from adcore.engine import latency
from adcore.engine.bench import Bench, Layout, prepare
from adcore.engine.cells import Cell
from adcore.engine.schedule import missing
from adcore.engine.timed import timed
from adcore.results import finished


@pytest.fixture
def busy(prepared: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Bench, Cell]:
    """A plan and its first cell, computed on a machine with a load of 4 that made us wait."""
    manifests = {spec.name: prepare(spec, Layout(tmp_path)) for spec in prepared.plan.datasets}
    opened = Bench(prepared.plan, tmp_path, manifests)
    cell = opened.cells[0]
    monkeypatch.setattr(latency, "SECONDS", 0.0)
    monkeypatch.setattr(os, "getloadavg", lambda: (4.0, 4.0, 4.0))
    monkeypatch.setattr(latency, "is_busy", lambda share: True)
    opened.computer.fit(cell, lambda done: None)
    opened.computer.score(cell, lambda done: None)
    opened.computer.evaluate(cell)
    opened.computer.latency(cell)
    monkeypatch.setattr(latency, "is_busy", lambda share: False)
    return opened, cell


def row(opened: Bench, cell: Cell) -> dict[str, object]:
    return finished.result(opened.store, cell, ["i_auroc"]).row


def is_missing(opened: Bench, cell: Cell) -> bool:
    return missing(Remembering(opened.store), cell).latency


def test_its_number_is_not_shown_and_the_machine_is_said_to_be_busy(busy: tuple[Bench, Cell]) -> None:
    shown = row(*busy)
    assert math.isnan(float(str(shown["score_ms"]))) and str(shown["hardware"]).endswith(", busy")
    kept = timed(busy[0].store, busy[1])
    assert kept["median_ms"] > 0 and kept["busy"]


def test_while_the_machine_is_as_busy_nothing_is_missing(busy: tuple[Bench, Cell]) -> None:
    assert not is_missing(*busy)


def test_when_it_is_quieter_it_is_measured_again(busy: tuple[Bench, Cell], monkeypatch: pytest.MonkeyPatch) -> None:
    opened, cell = busy
    monkeypatch.setattr(os, "getloadavg", lambda: (1.0, 1.0, 1.0))
    assert is_missing(opened, cell)
    opened.computer.latency(cell)
    assert not is_missing(opened, cell)
    shown = row(opened, cell)
    assert float(str(shown["score_ms"])) > 0 and not str(shown["hardware"]).endswith("busy")


def test_no_model_is_fitted_again_for_it(busy: tuple[Bench, Cell], monkeypatch: pytest.MonkeyPatch) -> None:
    opened, cell = busy
    monkeypatch.setattr(os, "getloadavg", lambda: (1.0, 1.0, 1.0))
    shutil.rmtree(opened.store.here("fit", cell.fit_key))
    assert not is_missing(opened, cell)


def test_every_artifact_says_what_it_was_made_on(busy: tuple[Bench, Cell]) -> None:
    opened, cell = busy
    kinds = [("fit", cell.fit_key), ("maps", cell.maps_key), ("cell", cell.key), ("gallery", cell.gallery_key)]
    found = {opened.store.meta(*artifact)["hardware"] for artifact in [*kinds, ("busy", cell.latency_key)]}
    assert len(found) == 1 and " core" in found.pop()
