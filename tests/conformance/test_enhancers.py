"""What every registered enhancer keeps to, before every kind of method. A new file is tested without a line added."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from adcore.core.contracts import Enhancer, EnhancerOptions
from adcore.core.plan import Plan
from adcore.core.store import Store
from adcore.engine import bench, latency, registry
from adcore.engine.bench import Bench
from adcore.engine.cells import Cell
from adcore.features.bank import Live
from adcore.features.extractor import Extraction, Extractor
from adcore.results import finished

ENHANCERS = sorted(registry.modules("enhancers"))
METHODS = ["padim", {"name": "patchcore", "coreset": 0.5}]  # three levels, and two


def silent(done: float) -> None: ...


def short(name: str) -> dict[str, object]:
    """The enhancer with little to do."""
    return {"name": name, **registry.enhancer(name).trial}


def enhanced(opened: Bench, cell: Cell) -> None:
    for link in cell.links:
        opened.computer.enhance(cell, link.key, silent)


@pytest.fixture(scope="module", params=ENHANCERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def cls(name: str) -> type[Enhancer]:
    return registry.enhancer(name)


@pytest.fixture(scope="module")
def opened(name: str, plan: Callable[..., Plan], tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """One category of the tiny set with none and with the enhancer, two methods, all computed."""
    made = plan(enhancers=["none", short(name)], methods=METHODS)
    made = made.model_copy(
        update={"datasets": (made.datasets[0].model_copy(update={"categories": ("bolt",), "textures": ()}),)}
    )
    layout = bench.Layout(tmp_path_factory.mktemp(name))
    found = Bench(made, layout.workspace, {"parts": bench.prepare(made.datasets[0], layout)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "SECONDS", 0.0)
        for cell in found.cells:
            enhanced(found, cell)
            found.computer.fit(cell, silent)
            found.computer.score(cell, silent)
            found.computer.evaluate(cell)
            found.computer.latency(cell, found.plain(cell))
    return found


def extractor(opened: Bench, cell: Cell) -> Extractor:
    return opened.computer.bank.extractor(Extraction(cell.backbone, cell.image, cell.levels, cell.links))


def test_it_is_named_as_its_file_and_every_option_has_a_default(name: str, cls: type[Enhancer]) -> None:
    assert cls.name == name == registry.modules("enhancers")[name].rpartition(".")[2]
    assert (
        issubclass(cls.Options, EnhancerOptions) and cls.Options() is not None and "epochs" in cls.Options.model_fields
    )
    assert cls.__doc__ and cls.Options.__doc__ != EnhancerOptions.__doc__


def test_its_identity_is_json_and_repeats_itself(cls: type[Enhancer], plan: Callable[..., Plan]) -> None:
    found = [json.dumps(cls(cls.Options()).identity(plan().backbone), sort_keys=True) for _ in range(2)]
    assert found[0] == found[1]


def test_cells_with_it_are_complete_and_have_finite_numbers(opened: Bench) -> None:
    rows = [result.row for result in finished.read(opened, opened.store, ("i_auroc", "p_auroc"))]
    assert len(rows) == 4 and all(np.isfinite(row["i_auroc"]) and np.isfinite(row["p_auroc"]) for row in rows)


def test_it_gives_as_many_maps_as_it_says_and_the_bank_holds_the_same(opened: Bench) -> None:
    for cell in opened.cells:
        extraction = Extraction(cell.backbone, cell.image, cell.levels, cell.links)
        source: Any = opened.computer._source(cell, "test")
        own = extractor(opened, cell)
        live = Live(bench_images(cell), own, cell.image)
        assert len(extraction.names) == len(source.shapes) and source.shapes == own.shapes() == live.shapes
        for held, computed in zip(next(iter(source)), next(iter(live)), strict=True):
            assert torch.allclose(held, computed, atol=1e-5) and bool(torch.isfinite(held).all())


def bench_images(cell: Cell):
    from adcore.engine.enhancement import image_set

    return image_set(cell, "test")


def test_it_changes_the_features_and_leaves_those_of_none_alone(opened: Bench) -> None:
    plain, changed = opened.cells[0], opened.cells[2]
    assert not plain.links and changed.links and plain.contender.method is changed.contender.method
    sources: list[Any] = [opened.computer._source(cell, "test") for cell in (plain, changed)]
    one, other = (next(iter(source)) for source in sources)
    assert len(one) != len(other) or any(not torch.equal(a, b) for a, b in zip(one, other, strict=True))
    fresh = Extractor(Extraction(plain.backbone, plain.image, plain.levels), "cpu")
    batch = next(iter(Live(bench_images(plain), fresh, plain.image)))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(batch, one, strict=True))


def test_computed_again_every_artifact_is_equal_to_the_bit(opened: Bench, tmp_path: Path) -> None:
    """What a step cost stands in meta.json alone; a latency is a measurement, and no two are equal."""
    cell = opened.cells[-1]
    again = Bench(opened.plan, opened.layout.workspace, opened.manifests)
    again.store = Store(tmp_path)
    enhanced(again, cell)
    again.computer.fit(cell, silent)
    again.computer.score(cell, silent)
    again.computer.evaluate(cell)
    artifacts = [("fit", cell.fit_key), *((kind, key) for kind, key in cell.artifacts if kind != "latency")]
    assert {kind for kind, _ in artifacts} == {"enhancer", "fit", "maps", "cell", "gallery"}
    for kind, key in artifacts:
        one, other = (_content(store.path(kind, key)) for store in (opened.store, again.store))
        assert one == other, kind


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "meta.json"}


@pytest.mark.usefixtures("every_epoch")
def test_killed_halfway_it_ends_with_the_weights_of_one_left_alone(
    opened: Bench, cls: type[Enhancer], tmp_path: Path
) -> None:
    """Three epochs, killed in the second, beside three epochs in one go."""
    options = short(cls.name)
    if cls.Options.model_fields["epochs"].default == 0:
        pytest.skip("it is not trained")
    made = opened.plan.model_copy(update={"enhancers": (type(opened.plan.enhancers[0])(**options | {"epochs": 3}),)})
    cell = Bench(made, opened.layout.workspace, opened.manifests).cells[0]
    (link,) = cell.links

    class Killed(Exception):
        pass

    def die(done: float) -> None:
        if done > 0.5:
            raise Killed

    found = []
    for name, killed in (("alone", False), ("killed", True)):
        one = Bench(made, tmp_path / name, opened.manifests)
        if killed:
            with pytest.raises(Killed):
                one.computer.enhance(cell, link.key, die)
            assert not one.store.has("enhancer", link.key) and list(one.computer.checkpoints.iterdir())
            one = Bench(made, tmp_path / name, opened.manifests)
        one.computer.enhance(cell, link.key, silent)
        assert not list(one.computer.checkpoints.iterdir())
        folder = one.store.path("enhancer", link.key)
        found.append((load_file(folder / "weights.safetensors"), (folder / "curves.json").read_text()))
    assert all(torch.equal(value, found[1][0][key]) for key, value in found[0][0].items())
    assert found[0][1] == found[1][1] and len(json.loads(found[0][1])["loss"]) == 3


def test_what_it_was_trained_on_is_told(opened: Bench) -> None:
    results = [result for result in finished.read(opened, opened.store, ("i_auroc",)) if result.trained]
    assert len(results) == 2
    for result in results:
        (trained,) = result.trained
        summary = trained.summary
        assert trained.part == opened.plan.enhancers[1].name and trained.seconds > 0
        assert summary["epochs"] == len(trained.curves.get("loss", []))
        if summary["accuracy"] is not None:
            assert 0 <= summary["accuracy"] <= 1 and 0 < summary["chance"] < 1


def test_latency_is_taken_beside_none(opened: Bench) -> None:
    measured = finished.timings(opened, opened.store)
    timings = {(found["method_label"], found["enhancer_label"]): found["latency"] for found in measured}
    assert len(timings) == 4
    for (_, enhancer), found in timings.items():
        scopes = found["scopes"]
        parts = sum(scopes[scope]["mean_ms"] for scope in ("extract", "score", "post"))
        assert parts == pytest.approx(scopes["total"]["mean_ms"])
        assert ("without" in found) == (enhancer != "none")
        if enhancer != "none":
            difference, low, high = found["without"]["difference_ms"]["total"]
            assert low <= difference <= high


def test_identity_gives_the_metrics_of_none_to_the_bit(plan: Callable[..., Plan], tmp_path: Path) -> None:
    made = plan(
        enhancers=["none", {"name": "pfam", "train": "identity"}], methods=[*METHODS, {"name": "cfa", "epochs": 1}]
    )
    opened = Bench(made, tmp_path, {"parts": bench.prepare(made.datasets[0], bench.Layout(tmp_path))})
    for cell in opened.cells:
        enhanced(opened, cell)
        opened.computer.fit(cell, silent)
        opened.computer.score(cell, silent)
        opened.computer.evaluate(cell)
    for cell in (cell for cell in opened.cells if cell.links):
        folders = [opened.store.path("cell", c.key) / "metrics.json" for c in (cell, opened.plain(cell))]
        assert folders[0].read_text() == folders[1].read_text()
        maps = [opened.store.path("maps", c.maps_key) / "maps.npy" for c in (cell, opened.plain(cell))]
        assert np.array_equal(np.load(maps[0]), np.load(maps[1]))
